"""Beta codes: each lets one person register (spec §2.7)."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Table

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
