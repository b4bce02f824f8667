"""The audit log: who did what, when, from where, and how it came out."""

from dataclasses import dataclass

from sqlalchemy import BigInteger, Column, Connection, Integer, LargeBinary, Table

from nofx_grpc.store import revisions
from nofx_grpc.store.metadata import ByteOrderedText, key_column, metadata, text_column, time_column

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    time_column("at"),
    key_column("principal"),
    text_column("role"),
    key_column("method"),
    text_column("peer"),
    text_column("user_id"),
    text_column("resources"),
    key_column("outcome"),
    text_column("reason"),
    Column("revision", BigInteger),
    text_column("request_id"),
    # The chain of the process that wrote the record, its place in it, and its HMAC.
    Column("chain_id", ByteOrderedText),
    Column("chain_position", BigInteger),
    Column("mac", LargeBinary),
)

OK = "OK"
DENIED = "DENIED"
FAILED = "FAILED"
MOST_RESOURCES = 20


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One event.  Nothing in it may be a secret, a password or a code."""

    principal: str
    role: str
    method: str
    peer: str
    user_id: str = ""
    resources: str = ""
    outcome: str = OK
    reason: str = ""
    revision: int | None = None
    request_id: str = ""


def append(connection: Connection, record: AuditRecord) -> None:
    """Write one record, in the transaction of what it tells of; what that has touched is named by itself."""
    scope = revisions.scope(connection)
    values: dict[str, object] = {name: getattr(record, name) for name in AuditRecord.__slots__}
    if scope.touched:
        values["resources"] = _summary(scope.touched)
        values["user_id"] = record.user_id or scope.touched[0].user_id
    values["at"] = scope.now
    values["revision"] = record.revision if record.revision is not None else scope.revision
    revisions.defer(connection, audit_log, values)


def _summary(touched: list[revisions.Touched]) -> str:
    named = "; ".join(map(str, touched[:MOST_RESOURCES]))
    return named if len(touched) <= MOST_RESOURCES else f"{named}; and {len(touched) - MOST_RESOURCES} more"
