"""Password hashes: argon2id is written; argon2id, and bcrypt as NOFX wrote it, are verified.

Every function here takes tens of milliseconds of CPU on purpose: call them in a thread.
"""

import re
from typing import Final

import bcrypt
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

# OWASP Password Storage Cheat Sheet: argon2id with 19 MiB, two passes and one lane.
ARGON2_KIB: Final = 19 * 1024
ARGON2_PASSES: Final = 2
ARGON2_LANES: Final = 1

MIN_CHARACTERS: Final = 8
MAX_BYTES: Final = 1024

_ARGON2 = PasswordHasher(ARGON2_PASSES, ARGON2_KIB, ARGON2_LANES, hash_len=32, salt_len=16)

# A well-formed hash of no password that anyone knows: salt and digest are all zero bits.
_NOBODY: Final = f"$argon2id$v=19$m={ARGON2_KIB},t={ARGON2_PASSES},p={ARGON2_LANES}${'A' * 22}${'A' * 43}"

# NOFX writes cost 10 (50 ms). Each further step doubles it, up to 31, which is days: beyond 15 it is no hash of NOFX.
# The salt's last character has four unused bits, which the library wants to be zero, as they are in every real hash.
_BCRYPT: Final = re.compile(r"\$2[aby]\$(?:0[4-9]|1[0-5])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
_BCRYPT_MAX_BYTES: Final = 72


def hash_password(password: str) -> str:
    """Return a new argon2id hash, salted, in the PHC string format."""
    return _ARGON2.hash(_encode(password))


def verify(hash: str, password: str) -> bool:
    """Tell whether the hash was made of this password; never raises.

    A hash that no password fits (NOFX's admin has '') or of an unknown format costs the work of a real one.
    """
    secret = _encode(password)
    if _BCRYPT.fullmatch(hash):
        # Go's bcrypt hashes no more than 72 bytes, but compares the first 72 of any password.
        return bcrypt.checkpw(secret[:_BCRYPT_MAX_BYTES], hash.encode("ascii"))
    try:
        return _ARGON2.verify(hash, secret)
    except VerifyMismatchError:
        return False
    except (VerificationError, ValueError):
        return _verify_nobody(secret)


def needs_rehash(hash: str) -> bool:
    """Tell whether to replace this hash by `hash_password` at the next login that succeeds."""
    try:
        return _ARGON2.check_needs_rehash(hash)
    except InvalidHashError:
        return True


def check_strength(password: str) -> str | None:
    """Return what is wrong with a new password, and what would be accepted; None if nothing is."""
    if len(password) < MIN_CHARACTERS:
        return f"must have at least {MIN_CHARACTERS} characters"
    if len(_encode(password)) > MAX_BYTES:
        return f"must have at most {MAX_BYTES} bytes in UTF-8"
    return None


def _verify_nobody(secret: bytes) -> bool:
    try:
        return _ARGON2.verify(_NOBODY, secret)
    except VerificationError:
        return False


def _encode(password: str) -> bytes:
    # Half a surrogate pair is no text, but must not become an exception that carries the password.
    return password.encode("utf-8", "surrogatepass")
