"""The schema: what state a database is in, and bringing it to the newest version in one transaction."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from functools import cache
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, select, update
from sqlalchemy.exc import DBAPIError

from nofx_grpc.errors import SchemaError, StartError
from nofx_grpc.store.backend import PATIENCE_SECONDS, Backend
from nofx_grpc.store.revisions import store_state
from nofx_grpc.store.tables import TIMESTAMPED

logger = structlog.get_logger(__name__)

# The table that stands in a database as long as it is not to be served: see `moving.target`.
COPY_MARK = "copy_mark"

_PAUSE_SECONDS = 2.0
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

    Whoever uses the tables meanwhile is waited for, and keeps nobody else from them: what is given may be called again,
    where all that it did was undone.

    All of it is one transaction: a kill at any point leaves the database as it was.  Raises SchemaError if the
    database is not ours, is too new, or a migration fails, and StartError if it is locked or cannot be written.
    """
    inspect_store(backend)
    with explained(backend):
        connection = backend.open_writer()

    def migrate_once() -> bool:
        with backend.schema_transaction(connection):
            return _migrate(backend, connection, seed, complete)

    try:
        with explained(backend):
            return _between_others(backend, migrate_once)
    finally:
        connection.close()


def _migrate(
    backend: Backend,
    connection: Connection,
    seed: Callable[[Connection], None],
    complete: Callable[[Connection], None] | None,
) -> bool:
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


def _between_others(backend: Backend, change: Callable[[], bool]) -> bool:
    """What `change` returns once nobody uses the tables that it changes.  Raises its error if they do for too long.

    All that it did is undone in between, so that a server which works on is not held up by who is in its way.
    """
    until, waiting = time.monotonic() + PATIENCE_SECONDS, False
    while True:
        try:
            return change()
        except DBAPIError as error:
            if not backend.is_in_use(error) or time.monotonic() > until:
                raise
        if not waiting:  # said once
            logger.warning("migration_waits", reason="others use the tables: a backup, or an old transaction")
        waiting = True
        time.sleep(_PAUSE_SECONDS)


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
    return _versions()[0]


def _state_of_version(connection: Connection, version: str | None) -> SchemaState:
    known = _versions()
    if version not in known:
        return SchemaState.NEWER if _oldest_schema(connection) in known else SchemaState.TOO_NEW
    return SchemaState.CURRENT if version == newest_version() else SchemaState.OLD


@cache  # to find out, Alembic runs the file of each migration
def _versions() -> list[str]:
    """The schema versions that this release knows, the newest first."""
    return [script.revision for script in ScriptDirectory(str(_MIGRATIONS)).walk_revisions()]


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
