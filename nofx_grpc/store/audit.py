"""The audit log: who did what, when, from where, and how it came out.

Each record is a link of a chain (`nofx_grpc.store.audit_chain`); the anchors say up to where a chain was pruned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, Column, Connection, Index, LargeBinary, Table, text
from sqlalchemy.exc import DBAPIError

from nofx_grpc.errors import AuditUnavailable
from nofx_grpc.store import revisions
from nofx_grpc.store.bulk import insert_rows
from nofx_grpc.store.metadata import key_column, metadata, text_column, time_column

if TYPE_CHECKING:  # each backend knows what its errors mean
    from nofx_grpc.store.backend import Backend

audit_log = Table(
    "audit_log",
    metadata,
    # The chain of the writer that wrote the record, and its place there, counted from 1 without a gap.
    key_column("chain_id", primary_key=True),
    Column("chain_position", BigInteger, primary_key=True, autoincrement=False),
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
    Column("mac", LargeBinary, nullable=False),  # over all of the above and the mac of the record before
)
_COLUMNS = audit_log.c
_REFUSED = text("outcome <> 'OK'")
Index("ix_audit_log_at", _COLUMNS.at)
Index("ix_audit_log_principal_at", _COLUMNS.principal, _COLUMNS.at)
Index("ix_audit_log_method_at", _COLUMNS.method, _COLUMNS.at)
Index("ix_audit_log_user_id_at", _COLUMNS.user_id, _COLUMNS.at)
Index("ix_audit_log_outcome_at", _COLUMNS.outcome, _COLUMNS.at, sqlite_where=_REFUSED, postgresql_where=_REFUSED)

audit_anchors = Table(
    "audit_anchors",
    metadata,
    key_column("chain_id", primary_key=True),
    Column("position", BigInteger, nullable=False),  # of the last record that was pruned
    Column("mac", LargeBinary, nullable=False),  # that record's
    time_column("pruned_at"),
    Column("seal", LargeBinary, nullable=False),  # over all of the above
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


def insert(connection: Connection, records: Sequence[Mapping[str, object]], backend: "Backend") -> None:
    """Write sealed records, before the commit of what they tell of.

    Raises AuditUnavailable where the database does not take them, and that says nothing about its state.
    """
    try:
        insert_rows(connection, audit_log, records)
    except DBAPIError as error:
        if backend.is_transient(error) or backend.explain(error) is not None:
            raise
        raise AuditUnavailable from error


def _summary(touched: list[revisions.Touched]) -> str:
    named = "; ".join(map(str, touched[:MOST_RESOURCES]))
    return named if len(touched) <= MOST_RESOURCES else f"{named}; and {len(touched) - MOST_RESOURCES} more"
