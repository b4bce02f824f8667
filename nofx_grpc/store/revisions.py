"""One revision for the whole store, as in etcd, and the log of what changed at each.

A write function that changes what a client can see takes the next number from a one-row table and puts it into the
rows that it changes and into one `change_log` row for each.  The row lock makes commit order and number order the
same, and a rollback leaves no gap.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import BigInteger, Column, Connection, Integer, Table, bindparam, select, text, update

from nofx_grpc.crypto.envelope import Envelope
from nofx_grpc.store.bulk import insert_rows
from nofx_grpc.store.metadata import key_column, metadata, text_column, time_column

store_state = Table(
    "store_state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1
    Column("revision", BigInteger, nullable=False),
    Column("compacted_revision", BigInteger, nullable=False),
    key_column("history_id"),
    time_column("created_at"),
    # Counts the changes of the keyring, so that each process sees that it has to read it again.
    Column("keyring_version", BigInteger, nullable=False, server_default=text("0")),
    text_column("oldest_schema"),  # of the releases that still work on this database
    text_column("decision_logs_id"),  # of the directory that has the decision logs; empty until there is one
)

change_log = Table(
    "change_log",
    metadata,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    key_column("kind"),
    key_column("user_id"),
    key_column("id"),
    key_column("operation"),
    text_column("resource"),  # JSON of the public record as of this revision; empty for a delete
    time_column("created_at"),
)


class Kind(StrEnum):
    """The kinds of resources that have revisions."""

    USER = "user"
    MODEL = "model"
    EXCHANGE = "exchange"
    SIGNAL_SOURCE = "signal source"
    TRADER = "trader"
    CONFIG_ENTRY = "configuration entry"
    BETA_CODE = "beta code"


class Operation(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


class Touched(NamedTuple):
    """A resource that a write function changed, for its audit record."""

    kind: str
    user_id: str
    id: str
    operation: str

    def __str__(self) -> str:
        return f"{self.operation} {self.kind} {self.user_id}/{self.id}"


class State(NamedTuple):
    """Where the store stands: the last revision, the oldest one that the log still tells of, which history they
    belong to, and how often the keyring has changed.
    """

    revision: int
    compacted_revision: int
    history_id: str
    keyring_version: int


@dataclass(slots=True)
class Batch:
    """One transaction of the writer: the last revision that a function in it has taken, if one has."""

    revision: int | None = None
    stored: int | None = None  # what the one-row table says; the last revision goes there before the commit


@dataclass(slots=True)
class Scope:
    """One write function's run: its time, its revision once it has taken one, and what it has touched.

    `envelope` seals under the key that is primary in this transaction.
    """

    now: datetime
    batch: Batch
    envelope: Envelope | None = None
    revision: int | None = None
    ordinal: int = 0
    touched: list[Touched] = field(default_factory=list)
    deferred: list[tuple[Table, Mapping[str, object]]] = field(default_factory=list)


_SCOPE = "nofx_scope"
_TAKE = update(store_state).values(revision=store_state.c.revision + 1).returning(store_state.c.revision)
_SET = update(store_state).values(revision=bindparam("last"))
_STATE = select(*(store_state.c[name] for name in State._fields))


def open_scope(connection: Connection, now: datetime, batch: Batch, envelope: Envelope | None = None) -> Scope:
    """Start the scope of one write function.  Called by the writer for each savepoint."""
    scope = connection.info[_SCOPE] = Scope(now, batch, envelope)
    return scope


def scope(connection: Connection) -> Scope:
    """The scope of the running write function."""
    current: Scope = connection.info[_SCOPE]
    return current


def read_state(connection: Connection) -> State:
    return State(*connection.execute(_STATE).one())


def take(connection: Connection) -> int:
    """This write function's revision: the next number at the first call, the same one at each further call.

    The first function of a transaction that takes one locks the row; those that follow only count on.
    """
    current, batch = scope(connection), scope(connection).batch
    if current.revision is None:
        if batch.revision is None:
            batch.stored = batch.revision = connection.execute(_TAKE).scalar_one()
        else:
            batch.revision += 1
        current.revision = batch.revision
    return current.revision


def log(connection: Connection, kind: Kind, user_id: str, id: str, operation: Operation, resource: str = "") -> None:
    """Record one change at this function's revision.  `resource` is the public record as JSON, without secrets."""
    touch(connection, kind, user_id, id, operation)
    log_quietly(connection, kind, user_id, id, operation, resource)


def log_quietly(connection: Connection, kind: Kind, user_id: str, id: str, operation: Operation, resource: str) -> None:
    """As `log`, for one of so many changes that the audit record is not to name each."""
    current = scope(connection)
    current.ordinal += 1
    row = {
        "revision": take(connection),
        "ordinal": current.ordinal,
        "kind": kind,
        "user_id": user_id,
        "id": id,
        "operation": operation,
        "resource": resource,
        "created_at": current.now,
    }
    defer(connection, change_log, row)


def touch(connection: Connection, kind: str, user_id: str, id: str, operation: str) -> None:
    """Name what was changed for the audit record: here what has no revision (a token, a password)."""
    scope(connection).touched.append(Touched(kind, user_id, id, operation))


def defer(connection: Connection, table: Table, row: Mapping[str, object]) -> None:
    """Insert a row that nothing reads before COMMIT; all rows of one table name the same columns.

    The writer inserts it right before, together with those of the other functions of its batch: one statement for
    many rows costs a fraction of one for each.
    """
    scope(connection).deferred.append((table, row))


def deferred(scopes: Iterable[Scope]) -> dict[Table, list[Mapping[str, object]]]:
    """The rows that the functions of one transaction have left for its end, by table."""
    rows: dict[Table, list[Mapping[str, object]]] = {}
    for current in scopes:
        for table, row in current.deferred:
            rows.setdefault(table, []).append(row)
    return rows


def finish(connection: Connection, batch: Batch, rows: Mapping[Table, Sequence[Mapping[str, object]]]) -> None:
    """Write what was left for the end of a transaction.  Called by the writer before COMMIT."""
    for table, together in rows.items():
        insert_rows(connection, table, together)
    if batch.revision != batch.stored:
        connection.execute(_SET, {"last": batch.revision})
