"""Sealing: the one boundary that a secret crosses on its way to and from the database.

A sealed text is::

    nofx1:<key id>:<fingerprint>:<base64url(nonce | ciphertext | tag)>[:<shown>]

AES-256-GCM with a random 96-bit nonce.  Its place in the database and everything around the ciphertext are associated
data: a sealed text that was moved to another row, column or user does not open, nor does one whose header was changed.
Seal at most 2**32 values under one key (NIST SP 800-38D §8.3), then rotate.

The fingerprint tells whether a secret has changed without telling the secret; it is keyed, and depends on the place, so
that the same secret in two places cannot be recognised.  ``shown`` is what may be displayed in clear, such as a URL
without its credentials.  '' means "no secret", sealed or not.
"""

import os
import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from nofx_grpc.crypto.encoding import Random, base64url_decode, base64url_encode, length_prefixed
from nofx_grpc.crypto.keyring import NONCE_BYTES, Key, Keyring
from nofx_grpc.errors import SecretUnreadable

VERSION: Final = "nofx1"
FINGERPRINT_DIGITS: Final = 8

_SEALED: Final = re.compile(
    VERSION + r":([0-9a-f]{8}):([0-9a-f]{8}):([A-Za-z0-9_-]*)(?::(.+))?",
    re.DOTALL,
)
_BLOB_VERSION: Final = b"\x01"
_BLOB_DOMAIN: Final = "nofx-blob-1"
_BLOB_KEY_ID: Final = slice(1, 5)
_BLOB_NONCE: Final = slice(5, 5 + NONCE_BYTES)
_BLOB_CIPHERTEXT: Final = slice(5 + NONCE_BYTES, None)


class Location(NamedTuple):
    """Where a sealed text is stored. ``row_id`` is '' where the user id alone is the key."""

    table: str
    column: str
    user_id: str
    row_id: str


class Header(NamedTuple):
    """What a sealed text tells without a key. Only `Envelope.open` proves it."""

    key_id: str
    fingerprint: str
    shown: str


class _Ciphers(NamedTuple):
    """The keys of one keyring, ready for use."""

    primary_id: str
    primary: AESGCM
    by_id: Mapping[str, AESGCM]


class Envelope:
    """Seals under the keyring's primary key; opens what any of its data keys sealed. Safe to share between threads.

    ``nofx_v1`` is the key of NOFX, if the keyring has it. Nothing is opened by it here: what NOFX encrypted is bound to
    no place.
    """

    def __init__(self, keyring: Keyring, random: Random = os.urandom) -> None:
        # Copied for each fingerprint, never updated: the key schedule is half the cost of a short HMAC.
        self._fingerprint_hmac = HMAC(keyring.fingerprint.secret, SHA256())
        self._random = random
        self.use(keyring)

    def __repr__(self) -> str:
        return f"Envelope(primary={self.primary_id!r}, keys={sorted(self._ciphers.by_id)!r})"

    def use(self, keyring: Keyring, retired: Iterable[Key] = ()) -> None:
        """Go over to this keyring, at once for all threads; ``retired`` keys still open.  Fingerprints stay."""
        by_id = {key.id: AESGCM(key.secret) for key in (*retired, *keyring.data.values())}
        self._ciphers = _Ciphers(keyring.primary.id, by_id[keyring.primary.id], by_id)
        self.nofx_v1 = keyring.nofx_v1

    @property
    def primary_id(self) -> str:
        """The id of the key that seals."""
        return self._ciphers.primary_id

    def seal(self, plaintext: str, where: Location, *, shown: str = "") -> str:
        """Return the text to store at ``where``; '' for ''. Raises ValueError for text that UTF-8 cannot hold."""
        if not plaintext:
            return ""
        key_id, cipher, _ = self._ciphers
        place = length_prefixed(*where)
        secret = _utf8(plaintext)
        fingerprint = self._fingerprint(place, secret)
        nonce = self._random(NONCE_BYTES)
        associated_data = length_prefixed(VERSION, key_id, fingerprint, shown) + place
        body = base64url_encode(nonce + cipher.encrypt(nonce, secret, associated_data))
        return _format(Header(key_id, fingerprint, shown), body)

    def open(self, sealed: str, where: Location) -> str:
        """Return the secret that was sealed for ``where``; '' for ''. Raises SecretUnreadable for anything else."""
        if not sealed:
            return ""
        try:
            key_id, fingerprint, body, shown = _parse(sealed)
            data = base64url_decode(body)
            associated_data = length_prefixed(VERSION, key_id, fingerprint, shown, *where)
            cipher = self._ciphers.by_id[key_id]
            return cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], associated_data).decode()
        except (InvalidTag, KeyError, ValueError):
            raise SecretUnreadable(where.column) from None

    def renew(self, sealed: str, where: Location) -> str:
        """Return the same secret sealed under the primary key; as it is, if it is that already, or no sealed text.

        Raises SecretUnreadable if it does not open.
        """
        header = describe(sealed)
        if header is None or header.key_id in {"", self.primary_id}:
            return sealed
        return self.seal(self.open(sealed, where), where, shown=header.shown)

    def renew_bytes(self, blob: bytes, context: tuple[str, ...]) -> bytes:
        """As `renew`, for a blob.  Raises SecretUnreadable."""
        if blob_key_id(blob) == self.primary_id:
            return blob
        return self.seal_bytes(self.open_bytes(blob, context), context)

    def seal_bytes(self, plaintext: bytes, context: tuple[str, ...]) -> bytes:
        """Return an opaque blob that opens only with the same context, whose first part names what the blob is."""
        key_id, cipher, _ = self._ciphers
        nonce = self._random(NONCE_BYTES)
        ciphertext = cipher.encrypt(nonce, plaintext, _blob_data(key_id, context))
        return _BLOB_VERSION + bytes.fromhex(key_id) + nonce + ciphertext

    def open_bytes(self, blob: bytes, context: tuple[str, ...]) -> bytes:
        """Return what was sealed with this context. Raises SecretUnreadable(context[0]) for anything else."""
        try:
            if blob[:1] != _BLOB_VERSION:
                raise ValueError("unknown version")
            key_id = blob_key_id(blob)
            associated_data = _blob_data(key_id, context)
            return self._ciphers.by_id[key_id].decrypt(blob[_BLOB_NONCE], blob[_BLOB_CIPHERTEXT], associated_data)
        except (InvalidTag, KeyError, ValueError):
            raise SecretUnreadable(context[0]) from None

    def _fingerprint(self, place: bytes, secret: bytes) -> str:
        digest = self._fingerprint_hmac.copy()
        digest.update(place + secret)
        return digest.finalize().hex()[:FINGERPRINT_DIGITS]


def describe(sealed: str) -> Header | None:
    """Return the header; None for ''. What is no sealed text has an empty header, so that it is never displayed."""
    if not sealed:
        return None
    try:
        key_id, fingerprint, _, shown = _parse(sealed)
        return Header(key_id, fingerprint, shown)
    except ValueError:
        return Header("", "", "")


def blob_key_id(blob: bytes) -> str:
    """Return the id of the key that sealed a blob; only `Envelope.open_bytes` proves it."""
    return blob[_BLOB_KEY_ID].hex()


def stub(sealed: str) -> str:
    """Return the sealed text without its ciphertext: it can be described, never opened. '' for ''."""
    header = describe(sealed)
    return _format(header, "") if header else ""


def is_sealed(text: str) -> bool:
    """Tell whether the text looks like a sealed text with a ciphertext; only `Envelope.open` tells whether it opens."""
    try:
        return _parse(text)[2] != ""
    except ValueError:
        return False


def _parse(sealed: str) -> tuple[str, ...]:
    """Return key id, fingerprint, body and shown part. Raises ValueError for what does not have the form."""
    match = _SEALED.fullmatch(sealed)
    if match is None:
        raise ValueError("not a sealed text")
    return match.groups("")


def _format(header: Header, body: str) -> str:
    text = f"{VERSION}:{header.key_id}:{header.fingerprint}:{body}"
    return f"{text}:{header.shown}" if header.shown else text


def _blob_data(key_id: str, context: tuple[str, ...]) -> bytes:
    return length_prefixed(_BLOB_DOMAIN, key_id, *context)


def _utf8(plaintext: str) -> bytes:
    try:
        return plaintext.encode()
    except UnicodeEncodeError:
        # The original exception carries the secret.
        raise ValueError("a secret must be text that UTF-8 can hold") from None
