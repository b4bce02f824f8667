"""What is kept as NOFX has it although it is worth a look.  Pure: each check answers (severity, code, detail)."""

import binascii
from base64 import b32decode
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from nofx_grpc.store.adoption.report import Severity

LEVERAGE: Final = range(1, 126)
SCAN_INTERVAL: Final = range(1, 10_081)
_BCRYPT: Final = ("$2a$", "$2b$", "$2y$")


class Finding(NamedTuple):
    severity: Severity
    code: str
    detail: str


def check_user(values: Mapping[str, Any], otp_secret: str) -> Iterator[Finding]:
    """A user who cannot log in, or not yet."""
    if not values["password_hash"]:
        yield Finding(Severity.WARNING, "user_without_password", "no password can match: an admin has to set one")
    elif not values["password_hash"].startswith(_BCRYPT):
        yield Finding(Severity.WARNING, "password_hash_unknown", "not bcrypt: an admin has to set a new password")
    if not values["otp_verified"]:
        yield Finding(Severity.INFO, "user_otp_unverified", "the registration was not completed")
    if otp_secret and not _is_base32(otp_secret):
        yield Finding(Severity.WARNING, "otp_secret_invalid", "not base32: an admin has to reset it")
    if not values["email"]:
        yield Finding(Severity.WARNING, "user_without_email", "cannot log in without one")


def check_trader(values: Mapping[str, Any]) -> Iterator[Finding]:
    """Values that a trader could not be given here; they stay until somebody changes them."""
    for name in ("btc_eth_leverage", "altcoin_leverage"):
        if values[name] not in LEVERAGE:
            yield Finding(Severity.WARNING, "value_out_of_range", f"{name} is {values[name]}: expected 1 to 125")
    if values["scan_interval_minutes"] not in SCAN_INTERVAL:
        found = values["scan_interval_minutes"]
        yield Finding(Severity.WARNING, "value_out_of_range", f"scan_interval_minutes is {found}: expected 1 to 10080")
    if values["initial_balance"] < 0:
        found = values["initial_balance"]
        yield Finding(Severity.WARNING, "value_out_of_range", f"initial_balance is {found}: expected 0 or more")


def _is_base32(text: str) -> bool:
    try:
        b32decode(text + "=" * (-len(text) % 8), casefold=True)
    except (binascii.Error, ValueError):
        return False
    return True
