"""The database that a store is copied to: empty at first, marked until it is whole, then a store like any other."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from sqlalchemy import BigInteger, Column, Connection, Integer, MetaData, Table, delete, insert, inspect, select, update

from nofx_grpc.errors import CopyError
from nofx_grpc.store.backend import Backend
from nofx_grpc.store.metadata import key_column
from nofx_grpc.store.schema import COPY_MARK, SchemaState, create_tables, explained, newest_version, state_of
from nofx_grpc.store.tables import CONTENT, TIMESTAMPED, metadata

COPY = "copy"
BACKUP = "backup"

# Not one of the store's own tables: where it is, nothing but a copy or a restore touches the database.
mark = Table(
    COPY_MARK,
    MetaData(),
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1
    key_column("purpose"),
    key_column("schema_version"),
    key_column("history_id"),
    Column("revision", BigInteger, nullable=False),
    key_column("owner"),  # which run of the command writes to it: a later one takes it over
)
_MARK = [mark.c.purpose, mark.c.schema_version, mark.c.history_id, mark.c.revision]


@dataclass(frozen=True, slots=True)
class Mark:
    """What a database is the copy of, and what for."""

    purpose: str
    schema_version: str
    history_id: str
    revision: int


def prepare(target: Backend, wanted: Mark, owner: str) -> bool:
    """Make the tables, or take up a copy that was not finished; whether one was taken up.  Who writes is the owner now.

    Raises CopyError if the database is not empty, and StartError if it cannot be used.
    """
    with _changing(target) as connection:
        state = state_of(connection)
        if state is SchemaState.COPY:
            return _take_up(connection, target, wanted, owner)
        if state is not SchemaState.NEW:
            raise CopyError(f"{target.describe()} is not empty: name a database that is, or a file that is not there")
        create_tables(connection)
        mark.create(connection)
        _put(connection, wanted, owner)
        return False


def check_owner(connection: Connection, owner: str) -> None:
    """Raises CopyError if another run of the command has taken the copy over, or finished it."""
    if not inspect(connection).has_table(COPY_MARK) or connection.execute(select(mark.c.owner)).scalar() != owner:
        raise CopyError("another copy to the same target was begun meanwhile: let one of them run to its end")


def finish(target: Backend, owner: str, *, keep_mark: bool) -> None:
    """Make of a whole copy a store like any other; with `keep_mark`, one that is refused until it is restored.

    Raises CopyError as `check_owner` does.
    """
    with _changing(target) as connection:
        check_owner(connection, owner)
        target.install_triggers(connection, TIMESTAMPED)
        target.advance_counters(connection, metadata.sorted_tables)
        if not keep_mark:
            mark.drop(connection)


def remove_mark(connection: Connection) -> None:
    mark.drop(connection)


def _take_up(connection: Connection, target: Backend, wanted: Mark, owner: str) -> bool:
    found = Mark(*connection.execute(select(*_MARK)).one())
    if found.purpose != COPY:
        raise CopyError(f"{target.describe()} is a backup: name another target")
    if found.schema_version != newest_version():
        raise CopyError(f"{target.describe()} is a copy that another release has begun: empty it, and begin anew")
    if found == wanted:
        connection.execute(update(mark).values(owner=owner))
        return True
    # The source has moved on. What was copied may stand in the way of what it holds now.
    for table in reversed(CONTENT):
        connection.execute(delete(table))
    connection.execute(delete(mark))
    _put(connection, wanted, owner)
    return False


def _put(connection: Connection, wanted: Mark, owner: str) -> None:
    connection.execute(insert(mark), {"id": 1, "owner": owner} | asdict(wanted))


@contextmanager
def _changing(target: Backend) -> Iterator[Connection]:
    """A transaction for a change of the schema.  Raises StartError."""
    with explained(target):
        connection = target.open_writer()
        try:
            with target.schema_transaction(connection):
                yield connection
        finally:
            connection.close()
