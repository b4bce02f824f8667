"""The schema: what state a database is in, and bringing it to the newest version in one transaction."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, select, update
from sqlalchemy.exc import DBAPIError

from nofx_grpc.errors import SchemaError, StartError
from nofx_grpc.store.backend import Backend
from nofx_grpc.store.revisions import store_state
from nofx_grpc.store.tables import TIMESTAMPED

# The table that stands in a database as long as it is not to be served: see `moving.target`.
COPY_MARK = "copy_mark"

_MIGRATIONS = Path(__file__).parent / "migrations"
# Fails at the start, and not at the first call, where the database cannot be written.
_CHANGE_NOTHING = update(store_state).values(id=store_state.c.id)


class SchemaState(Enum):
    NEW = auto()  # no table at all
    NOFX = auto()  # a database of NOFX that has not been adopted
    COPY = auto()  # a backup, or a copy that is not finished
    FOREIGN = auto()  # tables of something else
    OLD = auto()  # ours, with migrations to run
    CURRENT = auto()  # ours, at the newest version
    NEWER = auto()  # ours, migrated by a newer release, and made so that this one works on it all the same
    TOO_NEW = auto()  # ours, migrated by a newer release, and not for this one


def state_of(connection: Connection) -> SchemaState:
    """What a database is, judged by its tables and its schema version."""
    tables = set(inspect(connection).get_table_names())
    if not tables:
        return SchemaState.NEW
    if COPY_MARK in tables:
        return SchemaState.COPY
    if {"alembic_version", "store_state"} <= tables:  # others use alembic too
        return _state_of_version(connection, MigrationContext.configure(connection).get_current_revision())
    return SchemaState.NOFX if {"users", "traders", "system_config"} <= tables else SchemaState.FOREIGN


def inspect_store(backend: Backend) -> SchemaState:
    """What the database is before anything is done to it.  Raises SchemaError if it is not ours to use."""
    if not backend.exists():
        return SchemaState.NEW
    try:
        connection = backend.open_inspector()  # a writer would turn a database that is not ours to WAL mode
        try:
            state = state_of(connection)
        finally:
            connection.close()
    except DBAPIError as error:
        raise SchemaError(f"{backend.describe()} cannot be opened: {error.orig}") from error
    check_state(state, backend)
    return state


def migrate(
    backend: Backend, seed: Callable[[Connection], None], complete: Callable[[Connection], None] | None = None
) -> bool:
    """Bring the database to the newest schema; True if anything had to be done.

    A new one is seeded; for an older one `complete` does what needs more than the database.

    All of it is one transaction: a kill at any point leaves the database as it was.  Raises SchemaError if the
    database is not ours, is too new, or a migration fails, and StartError if it is locked or cannot be written.
    """
    inspect_store(backend)
    with explained(backend):
        connection = backend.open_writer()
    try:
        with explained(backend), backend.schema_transaction(connection):
            state = state_of(connection)
            check_state(state, backend)
            if state in {SchemaState.CURRENT, SchemaState.NEWER}:
                connection.execute(_CHANGE_NOTHING)
                return False
            create_tables(connection)
            backend.install_triggers(connection, TIMESTAMPED)
            if state is SchemaState.NEW:
                seed(connection)
            elif complete is not None:
                complete(connection)
        return True
    finally:
        connection.close()


def create_tables(connection: Connection) -> None:
    """Run every migration that the database has not had, in the caller's transaction."""
    command.upgrade(_config(connection), "head")


@contextmanager
def explained(backend: Backend) -> Iterator[None]:
    """Put an error of the database at the start into words for the operator.  Raises StartError, SchemaError."""
    where = backend.describe()
    try:
        yield
    except OSError as error:
        raise StartError(f"{where} cannot be used: {error.filename}: {error.strerror}") from error
    except (DBAPIError, CommandError) as error:
        explained = backend.explain(error)
        if explained is None:
            raise SchemaError(f"the migration of {where} failed and left it as it was: {error}") from error
        driver_text = getattr(error, "orig", error)
        raise StartError(f"{where} cannot be used: {explained.message} ({driver_text})") from error


def check_state(state: SchemaState, backend: Backend) -> None:
    """Raises SchemaError, which says what to do, unless the database is ours to use."""
    where = backend.describe()
    if state is SchemaState.NOFX:
        raise SchemaError(f"{where} is a NOFX database that has not been adopted: run 'nofx-grpc adopt {where}'")
    if state is SchemaState.FOREIGN:
        raise SchemaError(f"{where} holds tables that are not nofx-grpc's: give it a database of its own")
    if state is SchemaState.COPY:
        raise SchemaError(
            f"{where} is a backup, or a copy that is not finished: 'nofx-grpc restore' makes a store of the one, "
            "'nofx-grpc copy-db' finishes the other"
        )
    if state is SchemaState.TOO_NEW:
        raise SchemaError(
            f"{where} was written by a newer release: this one knows schemas up to {newest_version()}. Start that "
            "release, or restore a backup from before it"
        )


def version_of(backend: Backend) -> str:
    """The schema version that a database has.  Raises DBAPIError."""
    connection = backend.open_reader()
    try:
        return MigrationContext.configure(connection).get_current_revision() or ""
    finally:
        connection.close()


def newest_version() -> str:
    """The schema version that this release works with."""
    return ScriptDirectory(str(_MIGRATIONS)).get_current_head() or ""


def _state_of_version(connection: Connection, version: str | None) -> SchemaState:
    known = {script.revision for script in ScriptDirectory(str(_MIGRATIONS)).walk_revisions()}
    if version not in known:
        return SchemaState.NEWER if _oldest_schema(connection) in known else SchemaState.TOO_NEW
    return SchemaState.CURRENT if version == newest_version() else SchemaState.OLD


def _oldest_schema(connection: Connection) -> str | None:
    """The schema of the oldest release that works on this database; None if it does not say so."""
    if "oldest_schema" not in {column["name"] for column in inspect(connection).get_columns(store_state.name)}:
        return None  # somebody else's
    return connection.execute(select(store_state.c.oldest_schema)).scalar_one_or_none()


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
