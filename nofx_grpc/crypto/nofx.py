"""NOFX's own encryption, for opening only: what NOFX stored is read once, at adoption, and sealed anew.

NOFX stores ``ENC:v1:<base64 nonce>:<base64 ciphertext and tag>``: AES-GCM without associated data, under a key derived
from DATA_ENCRYPTION_KEY.
"""

import re
from base64 import b64decode
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from nofx_grpc.errors import MasterKeyError

PREFIX: Final = "ENC:v1:"
NONCE_BYTES: Final = 12
AES_KEY_SIZES: Final = (16, 24, 32)

_BASE64: Final = re.compile(r"[A-Za-z0-9+/]*={0,2}")

# What Go's strings.TrimSpace takes off. Python's str.strip takes U+001C to U+001F too.
_GO_SPACE: Final = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


class NofxSecretDamaged(ValueError):
    """A text that begins as NOFX's ciphertexts do, but does not open: another key, a damage, or a secret stored raw."""


def derive_key(env_value: str) -> bytes:
    """Return the AES key (16, 24 or 32 bytes) that NOFX makes of DATA_ENCRYPTION_KEY.

    The trimmed text is decoded as padded, then as unpadded base64; the first that yields at least one byte wins: it is
    the key if its length is one of AES, else it is hashed by SHA-256.  A text that neither decodes is hashed itself.
    NOFX tries hexadecimal last, in vain: whatever is hexadecimal is base64 too.
    Raises MasterKeyError if there is no text.
    """
    text = env_value.strip(_GO_SPACE)
    if not text:
        raise MasterKeyError("DATA_ENCRYPTION_KEY is empty: set it to the value that NOFX ran with")
    decoded = _go_base64(text) or _go_base64(text, padded=False)
    if not decoded:
        # An environment variable may hold bytes that are not UTF-8; Python hands them over as surrogates.
        return sha256(text.encode("utf-8", "surrogateescape")).digest()
    return decoded if len(decoded) in AES_KEY_SIZES else sha256(decoded).digest()


def is_nofx_ciphertext(text: str) -> bool:
    """Tell whether NOFX would try to decrypt this text."""
    return text.startswith(PREFIX)


def open_nofx(text: str, key: bytes) -> str:
    """Return the secret in NOFX's ciphertext. Raises NofxSecretDamaged, which never contains any of the text."""
    nonce_text, _, ciphertext_text = text.removeprefix(PREFIX).partition(":")
    nonce, ciphertext = _go_base64(nonce_text), _go_base64(ciphertext_text)
    if not is_nofx_ciphertext(text) or nonce is None or ciphertext is None or len(nonce) != NONCE_BYTES:
        raise NofxSecretDamaged("not a ciphertext of NOFX")
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, None).decode()
    except InvalidTag:
        raise NofxSecretDamaged("does not open under this DATA_ENCRYPTION_KEY") from None
    except UnicodeDecodeError:
        # The original exception carries the secret.
        raise NofxSecretDamaged("opens, but holds no UTF-8 text") from None


def _go_base64(text: str, *, padded: bool = True) -> bytes | None:
    """Decode as Go's base64.StdEncoding (RawStdEncoding if not padded) does; None where Go reports an error.

    Go skips CR and LF anywhere and ignores the unused bits of the last character, but is strict in all else.
    """
    text = text.replace("\r", "").replace("\n", "")
    if not padded:
        if "=" in text:
            return None
        text += "=" * (-len(text) % 4)
    # Checked here, for Python's own validation lets some superfluous padding pass.
    if len(text) % 4 or not _BASE64.fullmatch(text):
        return None
    return b64decode(text)
