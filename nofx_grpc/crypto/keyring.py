"""The keyring: the keys that seal data, each wrapped by one master key that only the operator holds.

A wrapped key is stored as a `KeyRecord`; the master key is never stored.  Purpose, state and algorithm are bound to the
wrapped key, so whoever can write the database can neither swap two keys nor make a retired one primary.
"""

import re
from base64 import b64decode, b64encode, urlsafe_b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, Self

from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from nofx_grpc.crypto.encoding import Random, base64url_decode, base64url_encode, length_prefixed
from nofx_grpc.errors import MasterKeyError

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
SALT_BYTES: Final = 16
NOFX_KEY_ID: Final = "nofx-v1"

# RFC 9106 §4, second recommended option.  Fixed for good: other values derive another key, and nothing would open.
ARGON2_PASSES: Final = 3
ARGON2_KIB: Final = 64 * 1024
ARGON2_LANES: Final = 4

_WRAP_VERSION: Final = "nofxkey1"
_HEX: Final = re.compile(r"[0-9A-Fa-f]{64}")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=?")
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]=?")

Purpose = Literal["data", "fingerprint", "audit"]
State = Literal["primary", "decrypt_only"]
Algorithm = Literal["aes-256-gcm", "hmac-sha-256", "nofx-v1"]


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as it is stored: everything in clear but the key itself."""

    id: str
    purpose: Purpose
    state: State
    algorithm: Algorithm
    wrapped: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is used."""

    id: str
    secret: bytes = field(repr=False)


class MasterKey:
    """The key that wraps all others.  ``derived``: it was made of a passphrase, which deserves a warning."""

    __slots__ = ("_cipher", "derived")

    def __init__(self, wrapping_key: bytes, *, derived: bool = False) -> None:
        self._cipher = AESGCM(wrapping_key)
        self.derived = derived

    def __repr__(self) -> str:
        return f"MasterKey(derived={self.derived})"

    @classmethod
    def from_text(cls, text: str, salt: bytes) -> Self:
        """Return the master key that the operator wrote as ``text``; white space around it does not count.

        Taken as the key itself: 32 bytes in base64 or base64url, padded or not (44 or 43 characters), or 64 hexadecimal
        digits.  Anything else is a passphrase and goes through argon2id with ``salt``, which is stored beside the
        keyring; this takes a tenth of a second.  Raises MasterKeyError if there is no text.
        """
        text = text.strip()
        if not text:
            raise MasterKeyError("the master key is empty: set DATA_ENCRYPTION_KEY to the key of this database")
        decoded = _decode(text)
        if decoded is not None:
            return cls(decoded)
        return cls(_derive(text, salt), derived=True)

    def wrap(
        self,
        key: Key,
        *,
        purpose: Purpose,
        state: State,
        algorithm: Algorithm,
        random: Random,
        now: datetime,
    ) -> KeyRecord:
        """Return the record to store for this key."""
        nonce = random(NONCE_BYTES)
        ciphertext = self._cipher.encrypt(nonce, key.secret, _associated_data(key.id, purpose, state, algorithm))
        return KeyRecord(key.id, purpose, state, algorithm, base64url_encode(nonce + ciphertext), now)

    def unwrap(self, record: KeyRecord) -> Key:
        """Return the key in this record. Raises MasterKeyError if it was wrapped by another key, or altered since."""
        associated_data = _associated_data(record.id, record.purpose, record.state, record.algorithm)
        try:
            data = base64url_decode(record.wrapped)
            return Key(record.id, self._cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], associated_data))
        except (InvalidTag, ValueError):
            raise MasterKeyError(f"the master key does not open key {record.id!r} of the keyring") from None

    def rewrap(self, record: KeyRecord, old: "MasterKey", random: Random, state: State | None = None) -> KeyRecord:
        """Return the record with the same key, which ``old`` has wrapped, wrapped by this one; in another state, if one
        is given. Raises MasterKeyError.
        """
        return self.wrap(
            old.unwrap(record),
            purpose=record.purpose,
            state=state or record.state,
            algorithm=record.algorithm,
            random=random,
            now=record.created_at,
        )

    def opens(self, records: Iterable[KeyRecord]) -> bool:
        """Tell whether this key has wrapped all these."""
        try:
            return all(self.unwrap(record) for record in records)
        except MasterKeyError:
            return False


@dataclass(frozen=True, slots=True)
class Keyring:
    """The unlocked keys. New values are sealed under ``primary``, which is one of ``data``."""

    primary: Key
    data: Mapping[str, Key] = field(repr=False)
    fingerprint: Key
    audit: Key
    nofx_v1: Key | None

    @classmethod
    def unlock(cls, records: Iterable[KeyRecord], master: MasterKey) -> Self:
        """Return the keyring. Raises MasterKeyError if any record does not open, or a key that must be there is not."""
        records = list(records)
        keys = _unwrap_all(records, master)
        return cls(
            primary=_only(keys, records, "data"),
            data={r.id: keys[r.id] for r in records if r.purpose == "data" and r.algorithm == "aes-256-gcm"},
            fingerprint=_only(keys, records, "fingerprint"),
            audit=_only(keys, records, "audit"),
            nofx_v1=next((keys[r.id] for r in records if r.algorithm == "nofx-v1"), None),
        )


def new_master_text(random: Random) -> str:
    """Return a new master key as text, for a file or DATA_ENCRYPTION_KEY."""
    return b64encode(random(KEY_BYTES)).decode("ascii")


def new_key(random: Random) -> Key:
    """Return a new key with a new id of 8 hexadecimal digits."""
    return Key(random(4).hex(), random(KEY_BYTES))


def new_keyring(master: MasterKey, random: Random, now: datetime) -> list[KeyRecord]:
    """Return the records of a new keyring: one key for data, one for fingerprints, one for the audit trail."""
    purposes: list[tuple[Purpose, Algorithm]] = [
        ("data", "aes-256-gcm"),
        ("fingerprint", "hmac-sha-256"),
        ("audit", "hmac-sha-256"),
    ]
    return [
        master.wrap(new_key(random), purpose=purpose, state="primary", algorithm=algorithm, random=random, now=now)
        for purpose, algorithm in purposes
    ]


def nofx_record(key: bytes, master: MasterKey, random: Random, now: datetime) -> KeyRecord:
    """Return the record that keeps NOFX's derived key (`nofx.derive_key`) for opening what NOFX encrypted."""
    return master.wrap(
        Key(NOFX_KEY_ID, key), purpose="data", state="decrypt_only", algorithm="nofx-v1", random=random, now=now
    )


def _associated_data(id: str, purpose: str, state: str, algorithm: str) -> bytes:
    return length_prefixed(_WRAP_VERSION, id, purpose, state, algorithm)


def _decode(text: str) -> bytes | None:
    if _HEX.fullmatch(text):
        return bytes.fromhex(text)
    if _BASE64.fullmatch(text):
        return b64decode(text[:43] + "=")
    if _BASE64URL.fullmatch(text):
        return urlsafe_b64decode(text[:43] + "=")
    return None


def _derive(text: str, salt: bytes) -> bytes:
    # An environment variable may hold bytes that are not UTF-8; Python hands them over as surrogates.
    secret = text.encode("utf-8", "surrogateescape")
    return hash_secret_raw(
        secret, salt, ARGON2_PASSES, ARGON2_KIB, parallelism=ARGON2_LANES, hash_len=KEY_BYTES, type=Type.ID
    )


def _unwrap_all(records: list[KeyRecord], master: MasterKey) -> dict[str, Key]:
    keys: dict[str, Key] = {}
    locked: list[str] = []
    for record in records:
        try:
            keys[record.id] = master.unwrap(record)
        except MasterKeyError:
            locked.append(record.id)
    if locked and not keys:
        raise MasterKeyError(
            "the master key does not open this database's keyring: it was made with another one. "
            "Set DATA_ENCRYPTION_KEY (or the key file, or the key command) to the key that this database was first "
            "started or adopted with, or that its keys were wrapped for last"
        )
    if locked:
        raise MasterKeyError(
            f"the master key opens {len(keys)} of {len(records)} keys of the keyring, but not {', '.join(locked)}: "
            "the database was altered; restore it from a backup"
        )
    return keys


def _only(keys: Mapping[str, Key], records: list[KeyRecord], purpose: Purpose) -> Key:
    found = [r.id for r in records if r.purpose == purpose and r.state == "primary"]
    if len(found) != 1:
        raise MasterKeyError(
            f"the keyring has {len(found)} primary keys for {purpose}, not one: "
            "the database was altered; restore it from a backup"
        )
    return keys[found[0]]
