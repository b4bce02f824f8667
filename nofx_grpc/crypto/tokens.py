"""Bearer tokens: how one is made, what one looks like, and what is stored of it."""

import hashlib
import re
from typing import Final

from nofx_grpc.crypto.encoding import Random, base64url_encode

# Secret scanners can find a token by its prefix.
PREFIX: Final = "nofx_"
SECRET_BYTES: Final = 32

_FORM: Final = re.compile(PREFIX + "[A-Za-z0-9_-]{43}")


def new_token_secret(random: Random) -> str:
    """Return a new token of 256 random bits."""
    return PREFIX + base64url_encode(random(SECRET_BYTES))


def looks_like_token(text: str) -> bool:
    """Tell whether the text could be a token at all, which spares the store what could not."""
    return _FORM.fullmatch(text) is not None


def token_hash(secret: str) -> str:
    """Return what is stored of a token.  A plain hash is enough: nobody can guess 256 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()
