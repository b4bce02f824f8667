"""The seals of the audit log: HMAC-SHA-256 under the audit key of the keyring.

A plain hash chain can be made anew by whoever can write the database; this one cannot without the key.  Every seal
begins with what it is for, so that none stands for another.
"""

import hmac
from collections.abc import Iterable
from typing import Final

from nofx_grpc.crypto.encoding import length_prefixed
from nofx_grpc.crypto.keyring import Key

_START: Final = "nofx-audit-start-1"
_RECORD: Final = "nofx-audit-record-1"


class ChainKey:
    """The audit key, as the key of seals."""

    __slots__ = ("_secret", "id")

    def __init__(self, key: Key) -> None:
        self.id, self._secret = key.id, key.secret

    def __repr__(self) -> str:
        return f"ChainKey({self.id!r})"

    def start(self, chain_id: str) -> bytes:
        """Return what stands before the first record of a chain."""
        return self.seal(_START, chain_id)

    def link(self, previous: bytes, fields: Iterable[str]) -> bytes:
        """Return the seal of a record: over all its fields, its place among them, and the seal of the one before."""
        return self.seal(_RECORD, previous.hex(), *fields)

    def seal(self, purpose: str, *parts: str) -> bytes:
        """Return the seal of these parts, in this order, for this purpose."""
        return hmac.digest(self._secret, length_prefixed(purpose, *parts), "sha256")


def same(one: bytes, other: bytes) -> bool:
    """Tell whether two seals are the same, in a time that does not tell how much of them is."""
    return hmac.compare_digest(one, other)
