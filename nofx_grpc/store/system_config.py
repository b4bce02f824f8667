"""System configuration: keys and values that hold for the whole installation (spec §2.6)."""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Table

from nofx_grpc.store.metadata import key_column, metadata, revision_column, rewrites_column, time_column
from nofx_grpc.store.resources import Resource
from nofx_grpc.store.revisions import Kind

system_config = Table(
    "system_config",
    metadata,
    key_column("key", primary_key=True),
    key_column("value"),
    time_column("updated_at"),
    revision_column(),
    rewrites_column(),
)


@dataclass(frozen=True, slots=True)
class ConfigEntry:
    """One setting; the value of a secret key is sealed."""

    key: str
    value: str = field(repr=False)
    updated_at: datetime
    revision: int


resource = Resource(Kind.CONFIG_ENTRY, system_config, ConfigEntry, key=("key",), secrets=("value",))
