"""What the two engines have to tell apart.  Everything else in the store is the same SQL on both."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from sqlalchemy import URL, Connection, Table, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError

from nofx_grpc.errors import NofxError, SettingsError, StoreUnavailable
from nofx_grpc.store.metadata import Timestamped
from nofx_grpc.store.reads import BoundedReads, Follow
from nofx_grpc.store.sqlite import SqliteBackend

# How long a change of the schema waits for those who are in its way.
PATIENCE_SECONDS = 120.0


class WriteLock(Protocol):
    """What a process must hold to write; it makes writers of several processes wait their turn in order."""

    def acquire(self, timeout: float) -> bool: ...
    def release(self) -> None: ...


@contextmanager
def holding(lock: WriteLock, timeout: float) -> Iterator[None]:
    """Hold the lock for the block.  Raises StoreUnavailable if it cannot be had in time."""
    if not lock.acquire(timeout):
        raise StoreUnavailable("the database is locked by another process")
    try:
        yield
    finally:
        lock.release()


class Listener(Protocol):
    """Hears of the commits of all processes.  What it hears is only a hint."""

    async def run(self, hear: Callable[[int], None]) -> None:
        """Call `hear` with the revision of each commit, and with 0 where some may have been missed; until cancelled."""


class Backend(Protocol):
    """One database engine at one URL."""

    name: str
    begin_read: str
    begin_write: str
    position: str  # reads `history.Position`
    claim: str | None  # makes the writers of other processes wait, and reads `Committed`; None: `begin_write` does

    @property
    def write_lock(self) -> WriteLock: ...

    def exists(self) -> bool:
        """Whether there is a database at the URL, be it empty; looking makes none."""

    def open_writer(self) -> Connection:
        """A connection in autocommit mode that may write; transactions are begun by hand."""

    def open_reader(self) -> Connection:
        """A connection in autocommit mode that cannot write."""

    def open_inspector(self) -> Connection:
        """A connection for a look at a database that may not be ours: nothing is left beside it."""

    def describe(self) -> str:
        """The database as a person would name it, without credentials."""

    def schema_transaction(self, connection: Connection) -> AbstractContextManager[None]:
        """One transaction for a change of the schema, held by one process at a time.

        It waits for no table for long: see `is_in_use`.
        """

    def install_triggers(self, connection: Connection, tables: Sequence[Timestamped]) -> None:
        """Make the triggers that keep `updated_at`, in place of those that are there."""

    def snapshot(self, connection: Connection) -> AbstractContextManager[None]:
        """One moment, for as long as it takes to read everything."""

    def advance_counters(self, connection: Connection, tables: Sequence[Table]) -> None:
        """Have the database number new rows after those that were inserted with their numbers."""

    def bounded_reads(self, follow: Follow) -> BoundedReads | None:
        """What runs reads of a few rows; None where they are so short that they may block the event loop."""

    def commit(self, revision: int | None) -> str:
        """The statement that commits a transaction; `revision` is the last that was taken in it, if one was."""

    def listener(self) -> Listener | None:
        """What hears of commits; None where they are found by looking only."""

    def in_transaction(self, connection: Connection) -> bool:
        """Whether the transaction begun by hand still lives after an error."""

    def is_lost(self, connection: Connection) -> bool:
        """Whether a connection that has failed can no longer be used."""

    def explain(self, error: BaseException) -> NofxError | None:
        """What a client is told of an error of the database's, from SQLAlchemy or the driver.

        None for any other error, and for one that says nothing about the state of the database.
        """

    def is_transient(self, error: BaseException) -> bool:
        """Whether the same thing, done again a little later in a transaction of its own, may well work."""

    def is_in_use(self, error: BaseException) -> bool:
        """Whether a change of the schema failed because somebody uses what it changes, and is to be tried again."""

    def commit_is_uncertain(self, error: DBAPIError) -> bool:
        """Whether a COMMIT that failed with this error may have taken effect all the same."""

    def checkpoint(self, connection: Connection) -> None:
        """Bring everything into the main database file, where the engine has one."""


_EXPECTED = "sqlite:///path/to/nofx.db, or postgresql+psycopg://user:password@host:port/database"


def backend_for(
    url: str,
    *,
    lock_timeout: float = 5.0,
    pool_size: int = 10,
    statement_timeout: float = 30.0,
    prepared: bool = True,
) -> Backend:
    """The backend for a database URL; all options but the first are PostgreSQL's alone.

    Raises SettingsError for a URL that names no supported engine.
    """
    if url.startswith("postgresql"):
        from nofx_grpc.store.postgresql import PostgresqlBackend, PostgresqlOptions  # dear to import

        options = PostgresqlOptions(pool_size, statement_timeout, lock_timeout, prepared)
        try:
            return PostgresqlBackend(url, options)
        except ValueError as error:
            raise SettingsError(f"NOFX_GRPC_DATABASE_URL has a value that is not shown: expected {error}") from None
    try:
        parsed: URL = make_url(url)
    except ArgumentError:
        raise SettingsError(f"NOFX_GRPC_DATABASE_URL is not a URL: expected {_EXPECTED}") from None
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        shown = parsed.render_as_string(hide_password=True)
        raise SettingsError(f"NOFX_GRPC_DATABASE_URL has value {shown!r}: expected {_EXPECTED}")
    return SqliteBackend(Path(parsed.database), lock_timeout=lock_timeout)


_DUPLICATE = {"SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_ROWID", "23505"}


def is_duplicate(error: IntegrityError) -> bool:
    """Whether a constraint failed because a key is taken."""
    code = getattr(error.orig, "sqlite_errorname", None) or getattr(error.orig, "sqlstate", None)
    return code in _DUPLICATE
