"""Time-based one-time passwords: RFC 6238, with the parameters of NOFX and of every authenticator app."""

import hmac
import re
from base64 import b32encode
from datetime import datetime
from typing import Final

from pyotp import TOTP

from nofx_grpc.crypto.encoding import Random

SECRET_BYTES: Final = 20  # RFC 4226 §4, R6: 160 bits are recommended
STEP_SECONDS: Final = 30  # RFC 6238 §5.2: the recommended time step
WINDOW: Final = 1  # RFC 6238 §5.2: steps accepted either side, for clocks that differ and for slow fingers

_CODE: Final = re.compile(r"[0-9]{6}")


class OtpError(Exception):
    """The code is not accepted."""


class OtpInvalid(OtpError):
    """The code is not one of this secret's at this time, or the secret is none."""


class OtpReused(OtpError):
    """The code was right, but it, or a later one, was accepted before (RFC 6238 §5.2)."""


def new_secret(random: Random) -> str:
    """Return a new secret in base32."""
    return b32encode(random(SECRET_BYTES)).decode("ascii")


def otpauth_uri(secret: str, email: str, issuer: str = "NOFX") -> str:
    """Return the URI that an authenticator app takes as a QR code."""
    return TOTP(secret, interval=STEP_SECONDS).provisioning_uri(name=email, issuer_name=issuer)


def match_step(secret: str, code: str, at: datetime, last_step: int | None) -> int:
    """Return the time step whose code this is; the caller stores it as the next ``last_step``.

    Raises OtpInvalid if it is none of the steps around ``at`` (an aware time), OtpReused if it is, but not one after
    ``last_step``.
    """
    matching = _matching_steps(secret, code, int(at.timestamp()) // STEP_SECONDS)
    if not matching:
        raise OtpInvalid
    unused = [step for step in matching if last_step is None or step > last_step]
    if not unused:
        raise OtpReused
    return unused[0]


def _matching_steps(secret: str, code: str, now: int) -> list[int]:
    # compare_digest takes no other characters than ASCII.
    if not _CODE.fullmatch(code):
        return []
    try:
        totp = TOTP(secret, interval=STEP_SECONDS)
    except ValueError:
        return []
    steps = range(max(0, now - WINDOW), now + WINDOW + 1)
    return [step for step in steps if hmac.compare_digest(totp.generate_otp(step), code)]
