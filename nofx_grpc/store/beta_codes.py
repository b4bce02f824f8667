"""Beta codes: each lets one person register (spec §2.7)."""

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, Table

from nofx_grpc.errors import BetaCodeInvalid
from nofx_grpc.store import revisions
from nofx_grpc.store.metadata import flag_column, key_column, metadata, revision_column, text_column, time_column
from nofx_grpc.store.resources import Resource
from nofx_grpc.store.revisions import Kind

beta_codes = Table(
    "beta_codes",
    metadata,
    key_column("code", primary_key=True),
    flag_column("used"),
    text_column("used_by"),
    time_column("used_at", nullable=True),
    time_column("created_at"),
    time_column("updated_at"),
    revision_column(),
)


@dataclass(frozen=True, slots=True)
class BetaCode:
    """A beta code; `used_by` is the e-mail of who redeemed it."""

    code: str
    used: bool
    used_by: str
    used_at: datetime | None
    created_at: datetime
    updated_at: datetime
    revision: int


resource = Resource(Kind.BETA_CODE, beta_codes, BetaCode, key=("code",))


def redeem(connection: Connection, code: str, email: str) -> BetaCode:
    """Spend a code for whoever has this e-mail; each code once, whoever else tries.  Raises BetaCodeInvalid."""
    # The lock of the revision comes first: whoever waits for it then sees, on every engine, what was spent before.
    revisions.take(connection)
    found = resource.find(connection, code)
    if found is None or found.used:
        raise BetaCodeInvalid
    return resource.put(connection, replace(found, used=True, used_by=email, used_at=revisions.scope(connection).now))


def release(connection: Connection, code: str, spent_at: datetime) -> None:
    """Make a code good again that was spent at this time; one that was deleted or spent anew since stays as it is."""
    found = resource.find(connection, code)
    if found is not None and found.used and found.used_at == spent_at:
        resource.put(connection, replace(found, used=False, used_by="", used_at=None))
