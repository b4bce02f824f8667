"""The two encodings that sealing rests on; both are injective, so that two inputs never share an output."""

from base64 import urlsafe_b64encode
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from typing import Final

Random = Callable[[int], bytes]
"""Returns that many unpredictable bytes: `os.urandom`, or a fixed sequence in a test."""

# What only plain base64 has becomes a foreign character.
_FROM_BASE64URL: Final = bytes.maketrans(b"-_+/=", b"+/   ")


def length_prefixed(*parts: str) -> bytes:
    """Return the parts, each behind its length in characters: ("ab", "c") and ("a", "bc") differ."""
    return "".join([f"{len(part)}:{part}" for part in parts]).encode()


def base64url_encode(data: bytes) -> str:
    """Return base64url without padding (RFC 4648 §5)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def base64url_decode(text: str) -> bytes:
    """Return the bytes that `base64url_encode` made this text of. Raises ValueError for every other text."""
    padded = text.encode("ascii").translate(_FROM_BASE64URL) + b"=" * (-len(text) % 4)
    data = a2b_base64(padded)
    # The decoder skips foreign characters and ignores the unused bits of the last one: only the way back is strict.
    if b2a_base64(data, newline=False) != padded:
        raise ValueError("not canonical base64url")
    return data
