"""A store copied to an empty database, of whichever engine, and compared row by row before it is called done."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, inspect, tuple_, update
from sqlalchemy.exc import DBAPIError

from nofx_grpc.errors import CopyError
from nofx_grpc.store import revisions
from nofx_grpc.store.audit import audit_log
from nofx_grpc.store.backend import Backend
from nofx_grpc.store.bulk import insert_rows
from nofx_grpc.store.moving import target as targets
from nofx_grpc.store.moving.rows import (
    BATCH,
    BATCH_BYTES,
    Difference,
    Key,
    Row,
    Tell,
    checksum,
    count,
    differences,
    in_order,
    key_of,
    size_of,
)
from nofx_grpc.store.moving.target import COPY, Mark
from nofx_grpc.store.schema import SchemaState, inspect_store, newest_version
from nofx_grpc.store.tables import CONTENT, metadata

_MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class TableCopied:
    rows: int
    checksum: str


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied: as of which revision, each table, and what the source holds that is no table of the store."""

    revision: int
    history_id: str
    resumed: bool
    tables: dict[str, TableCopied]
    left_out: list[str]


def copy_store(source: Backend, target: Backend, tell: Tell, *, purpose: str = COPY) -> Copied:
    """Copy everything as of one moment.

    Whatever ends it before it is done, the next call with the same target goes on.  Raises CopyError if the source
    is no store of this release, if the target is not empty, or taken over by another such call, if a row cannot be
    copied or is not the same there, if the source (of a copy, not of a backup) was written to meanwhile, and
    StartError if one of them cannot be used.
    """
    check_source(source)
    with reading(source) as of:
        state, began = revisions.read_state(of), _position(of)
        mark, owner = Mark(purpose, newest_version(), state.history_id, state.revision), str(uuid4())
        resumed = targets.prepare(target, mark, owner)
        work = _Work(tell, {table: count(of, table) for table in CONTENT})
        with reading(target) as present, _writing(target) as to:
            for table in CONTENT:
                targets.check_owner(to, owner)
                _put_rows(table, work.counted("copying", table, of), present, to)
            for table in reversed(CONTENT):
                _remove_rows(table, of, present, to)
        with reading(target) as present:
            copied = {table.name: _compare(table, work, of, present) for table in CONTENT}
        left_out = sorted(set(inspect(of).get_table_names()) - set(metadata.tables) - {"alembic_version"})
    if purpose == COPY:
        _check_unchanged(source, began)
    targets.finish(target, owner, keep_mark=purpose != COPY)
    return Copied(state.revision, state.history_id, resumed, copied, left_out)


def check_source(source: Backend) -> None:
    """Raises SchemaError or CopyError unless this is a store with the schema of this release."""
    state = inspect_store(source)
    if state is SchemaState.NEW:
        raise CopyError(f"there is no database at {source.describe()}")
    if state is SchemaState.NEWER:  # which has what this release does not know of
        raise CopyError(f"{source.describe()} was migrated by a newer release: copy it, or back it up, with that one")
    if state is SchemaState.OLD:
        raise CopyError(f"{source.describe()} is of an older release: run 'nofx-grpc migrate' on it first")


@contextmanager
def reading(backend: Backend) -> Iterator[Connection]:
    """A connection that sees one moment, however long it is read."""
    connection = backend.open_reader()
    try:
        with backend.snapshot(connection):
            yield connection
    finally:
        connection.close()


@contextmanager
def _writing(backend: Backend) -> Iterator[Connection]:
    connection = backend.open_writer()
    try:
        yield connection
    finally:
        connection.close()


def _check_unchanged(source: Backend, began: tuple[int, int]) -> None:
    """Raises CopyError if somebody has written to the source since: those writes would be lost."""
    with reading(source) as now:
        if _position(now) != began:
            raise CopyError(f"{source.describe()} was written to while it was copied: stop its servers, and copy again")


def _position(connection: Connection) -> tuple[int, int]:
    """What moves on with every write that somebody asked for: the revision, and the number of audit records."""
    return revisions.read_state(connection).revision, count(connection, audit_log)


class _Work:
    """How far it is: every row is copied, and then compared."""

    def __init__(self, tell: Tell, rows: dict[Table, int]) -> None:
        self._tell, self._total = tell, sum(rows.values())
        self._done: dict[str, int] = {}

    def counted(self, step: str, table: Table, connection: Connection) -> Iterator[Row]:
        """The rows of a table, each of them told of."""
        for row in in_order(connection, table):
            yield row
            done = self._done[step] = self._done.get(step, 0) + 1
            if done % BATCH == 0 or done == self._total:
                self._tell(step, done, self._total)


def _put_rows(table: Table, wanted: Iterator[Row], present: Connection, to: Connection) -> None:
    """Insert what is missing, and put what is different in place of what is there."""
    names = [column.name for column in table.columns]
    key = key_of(table)
    batch: list[Difference] = []
    size = 0
    for difference in differences(wanted, in_order(present, table), key):
        if difference.wanted is not None:
            batch.append(difference)
            size += size_of(difference.wanted)
        if len(batch) == BATCH or size >= BATCH_BYTES:
            _put_batch(table, names, batch, to)
            batch.clear()
            size = 0
    if batch:
        _put_batch(table, names, batch, to)


def _put_batch(table: Table, names: list[str], batch: Sequence[Difference], to: Connection) -> None:
    """Put some rows there, durably.  Raises CopyError, which names those that the target does not take."""
    try:
        with _transaction(to):
            _put(table, names, batch, to)
    except (DBAPIError, ValueError) as error:
        if to.closed or to.invalidated:
            raise
        refused = [(difference.key, why) for difference in batch if (why := _refusal(table, names, difference, to))]
        if not refused:
            raise
        named = "\n".join(f"  {_shown(key)}: {why}" for key, why in refused[:_MOST_NAMED])
        raise CopyError(f"{len(refused)} rows of {table.name} cannot be copied:\n{named}") from error


def _put(table: Table, names: list[str], batch: Sequence[Difference], to: Connection) -> None:
    new = [_values(names, difference) for difference in batch if difference.present is None]
    if new:
        insert_rows(to, table, new)
    for difference in batch:
        if difference.present is not None:  # not deleted and inserted: others may refer to it
            to.execute(update(table).where(_is(table, difference.key)).values(_values(names, difference)))


def _values(names: list[str], difference: Difference) -> dict[str, Any]:
    return dict(zip(names, difference.wanted or (), strict=True))


def _is(table: Table, key: Key) -> ColumnElement[bool]:
    return and_(*(column == value for column, value in zip(table.primary_key, key, strict=True)))


def _refusal(table: Table, names: list[str], difference: Difference, to: Connection) -> str:
    """Why the target does not take a row; "" if it does.  It is not kept there."""
    try:
        with _transaction(to, commit=False):
            _put(table, names, [difference], to)
    except (DBAPIError, ValueError) as error:
        return str(getattr(error, "orig", error))
    return ""


def _remove_rows(table: Table, of: Connection, present: Connection, to: Connection) -> None:
    """Remove what the source does not have (any more)."""
    found = differences(in_order(of, table), in_order(present, table), key_of(table))
    surplus = [difference.key for difference in found if difference.wanted is None]
    for start in range(0, len(surplus), BATCH):
        with _transaction(to):
            to.execute(delete(table).where(tuple_(*table.primary_key).in_(surplus[start : start + BATCH])))


def _compare(table: Table, work: _Work, of: Connection, present: Connection) -> TableCopied:
    """Raises CopyError, which names a row, unless the table is the same on both sides."""
    rows = count(of, table)
    ours, theirs = checksum(work.counted("comparing", table, of)), checksum(in_order(present, table))
    if ours != theirs:
        first = next(differences(in_order(of, table), in_order(present, table), key_of(table)))
        raise CopyError(f"the copy is not the same: the row {_shown(first.key)} of {table.name} differs")
    return TableCopied(rows, ours)


@contextmanager
def _transaction(connection: Connection, *, commit: bool = True) -> Iterator[None]:
    connection.exec_driver_sql("BEGIN")
    try:
        yield
    except BaseException:
        connection.exec_driver_sql("ROLLBACK")
        raise
    connection.exec_driver_sql("COMMIT" if commit else "ROLLBACK")


def _shown(key: Key) -> str:
    return " ".join(map(str, key))
