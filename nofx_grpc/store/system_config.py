"""System configuration: keys and values that hold for the whole installation (spec §2.6)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, Table, bindparam, select

from nofx_grpc.errors import EtagMismatch
from nofx_grpc.store.metadata import key_column, metadata, revision_column, rewrites_column, time_column
from nofx_grpc.store.resources import UNWRITTEN, Resource
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
    """One setting; the value of a secret key is sealed.  Revision 0 stands for one that is not stored."""

    key: str
    value: str = field(repr=False)
    updated_at: datetime
    revision: int


resource = Resource(
    Kind.CONFIG_ENTRY, system_config, ConfigEntry, key=("key",), secrets=("value",), always_sealed=False
)

_VALUES = select(system_config.c.key, system_config.c.value).where(
    system_config.c.key.in_(bindparam("keys", expanding=True))
)


def not_stored(key: str) -> ConfigEntry:
    return ConfigEntry(key, "", UNWRITTEN["updated_at"], 0)


def find_values(connection: Connection, keys: Iterable[str]) -> dict[str, str]:
    """The stored values of these keys, as they are stored; keys that are not stored are left out."""
    return {row.key: row.value for row in connection.execute(_VALUES, {"keys": list(keys)})}


def put(connection: Connection, key: str, value: str, etag: str = "") -> ConfigEntry:
    """Store a value, sealed where it is secret.  Raises EtagMismatch if `etag` is given and is not the entry's."""
    current = resource.find(connection, key)
    if current is not None:
        resource.check_etag(current, etag)
        changed = ConfigEntry(key, value, current.updated_at, current.revision)
        return current if changed == current else resource.put(connection, changed, current)
    if etag:
        raise EtagMismatch(resource.kind, key)
    return resource.create(connection, ConfigEntry(key, value, UNWRITTEN["updated_at"], 0))


class Listing:
    """All entries by key, those in `known` that are not stored too."""

    def __init__(self, known: Iterable[str]) -> None:
        self._known = sorted(known, key=str.encode)

    def page(
        self, connection: Connection, *, user_id: str = "", after: tuple[str, ...] = (), limit: int
    ) -> list[ConfigEntry]:
        """At most `limit` entries after the key `after`, in the order of their bytes."""
        stored = resource.page(connection, user_id=user_id, after=after, limit=limit)
        first = after[0].encode() if after else b""
        seen = {entry.key for entry in stored}
        missing = [key for key in self._known if first < key.encode() and key not in seen]
        # A key that is stored beyond these entries is taken for a missing one: it sorts after them, and is cut off.
        merged = stored + [not_stored(key) for key in missing]
        return sorted(merged, key=lambda entry: entry.key.encode())[:limit]

    def key_of(self, entry: ConfigEntry) -> tuple[str, ...]:
        return resource.key_of(entry)
