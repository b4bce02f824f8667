"""Everything that only SQLite knows: connections and pragmas, the lock between processes, and its error codes."""

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, NullPool, Table, create_engine
from sqlalchemy.exc import DBAPIError

from nofx_grpc.errors import NofxError, SchemaError, StartError, StoreFull, StoreUnavailable
from nofx_grpc.store.metadata import Timestamped
from nofx_grpc.store.reads import Follow

# A quota or a limit on the size of files is reported as IOERR_WRITE.
_NO_ROOM = {"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE"}
_BROKEN = ("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_CORRUPT", "SQLITE_NOTADB")


class FileLock:
    """An advisory lock on a file beside the database, made when it is first taken.

    SQLite's own busy handler sleeps and retries, which starves processes; flock() queues them in order.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._changed = threading.Condition()
        self._queued = self._wanted = self._held = False

    def acquire(self, timeout: float) -> bool:
        """Take the lock, waiting at most `timeout` seconds.  Raises OSError if the file cannot be made."""
        if self._file is None:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with self._changed:
            if not self._queued:
                try:
                    fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    self._queued = True
                    threading.Thread(target=self._queue_up, args=(self._file,), daemon=True).start()
                else:
                    return True
            self._wanted = True
            self._changed.wait_for(lambda: self._held, timeout)
            self._wanted = False
            return self._held

    def release(self) -> None:
        with self._changed:
            self._held = False
            if self._file is not None:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _queue_up(self, file: int) -> None:
        """Wait for the lock, and pass it on if by then nobody here waits for it any more."""
        fcntl.flock(file, fcntl.LOCK_EX)
        with self._changed:
            self._queued = False
            if self._wanted:
                self._held = True
                self._changed.notify()
            else:
                fcntl.flock(file, fcntl.LOCK_UN)


class SqliteBackend:
    """One SQLite database file, in WAL mode."""

    name = "sqlite"
    begin_read = "BEGIN"
    begin_write = "BEGIN IMMEDIATE"
    position = "SELECT revision, keyring_version, history_id, '', '' FROM store_state"
    claim: str | None = None  # the lock and BEGIN IMMEDIATE make other writers wait

    def __init__(self, path: Path, *, lock_timeout: float) -> None:
        self.path = path.absolute()
        self._busy_milliseconds = int(lock_timeout * 1000)
        self.write_lock = FileLock(self.path.with_name(self.path.name + ".lock"))

    def exists(self) -> bool:
        return self.path.exists()

    def open_writer(self) -> Connection:
        with suppress(FileExistsError):
            # Readable by its owner only, as SQLite then makes the files beside it.  An existing one must not be opened
            # here: to close it would release all locks that this process holds on it.
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection = self._engine("rw").connect()
        # FULL: an acknowledged write survives the loss of power (one fsync for each commit).
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "trusted_schema=OFF"):
            connection.exec_driver_sql(f"PRAGMA {pragma}")
        return connection

    def open_reader(self) -> Connection:
        return self._engine("ro").connect()

    def open_inspector(self) -> Connection:
        # In WAL mode even a reader makes the files beside the database, or writes to them.
        def beside(suffix: str) -> bool:
            return self.path.with_name(self.path.name + suffix).exists()

        if beside("-shm") and beside("-wal"):
            return self._engine("ro&readonly_shm=1").connect()
        return self._engine("ro" if beside("-wal") or beside("-journal") else "ro&immutable=1").connect()

    def _engine(self, mode: str) -> Engine:
        uri = f"file:{quote(str(self.path))}?mode={mode}"
        busy = self._busy_milliseconds

        def connect() -> sqlite3.Connection:
            # isolation_level=None: the driver begins no transaction by itself.  The connection is used by one thread
            # at a time, but not always by the one that made it.
            return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=busy / 1000)

        return create_engine(
            "sqlite://", creator=connect, poolclass=NullPool, isolation_level="AUTOCOMMIT", hide_parameters=True
        )

    def describe(self) -> str:
        return str(self.path)

    @contextmanager
    def schema_transaction(self, connection: Connection) -> Iterator[None]:
        if not self.write_lock.acquire(self._busy_milliseconds / 1000):
            raise StartError(f"{self.path} is locked by another process: stop that one first")
        try:
            # Tables are rebuilt in a migration, which foreign keys would get in the way of; they can only be
            # switched off outside a transaction, and are checked before the commit instead.
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
            connection.exec_driver_sql(self.begin_write)
            yield
            if broken := connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall():
                raise SchemaError(f"the migration of {self.path} would break {len(broken)} foreign keys: {broken[:5]}")
            connection.exec_driver_sql("COMMIT")
        finally:
            with suppress(DBAPIError):  # the error that led here tells more
                if self.in_transaction(connection):
                    connection.exec_driver_sql("ROLLBACK")
                connection.exec_driver_sql("PRAGMA foreign_keys=ON")
            self.write_lock.release()

    def install_triggers(self, connection: Connection, tables: Sequence[Timestamped]) -> None:
        for name in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").scalars().all():
            connection.exec_driver_sql(f'DROP TRIGGER "{name}"')
        for sql in trigger_statements(tables).values():
            connection.exec_driver_sql(sql)

    @contextmanager
    def snapshot(self, connection: Connection) -> Iterator[None]:
        connection.exec_driver_sql(self.begin_read)
        try:
            yield
        finally:
            connection.exec_driver_sql("ROLLBACK")

    def advance_counters(self, connection: Connection, tables: Sequence[Table]) -> None:
        """The next number is the highest and one."""

    def bounded_reads(self, follow: Follow) -> None:
        return None

    def commit(self, revision: int | None) -> str:
        return "COMMIT"

    def listener(self) -> None:
        return None

    def in_transaction(self, connection: Connection) -> bool:
        return not self.is_lost(connection) and driver_connection(connection).in_transaction

    def is_lost(self, connection: Connection) -> bool:
        if connection.closed or connection.invalidated:
            return True
        try:
            return driver_connection(connection).total_changes < 0  # never: only a closed connection minds the question
        except sqlite3.ProgrammingError:
            return True

    def explain(self, error: BaseException) -> NofxError | None:
        cause = getattr(error, "orig", error)
        code = getattr(cause, "sqlite_errorname", "")
        if code in _NO_ROOM:
            return StoreFull()
        if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")):
            return StoreUnavailable("the database is locked by another process")
        if code.startswith("SQLITE_READONLY"):
            return StoreUnavailable("the database is read-only")
        if code.startswith(_BROKEN):
            return StoreUnavailable("the database cannot be read or written; the server's log says why")
        return None

    def is_transient(self, error: BaseException) -> bool:
        return False  # whoever is in the way was waited for

    def is_in_use(self, error: BaseException) -> bool:
        return False

    def commit_is_uncertain(self, error: DBAPIError) -> bool:
        return False  # a COMMIT that fails leaves the transaction open, or rolled back

    def checkpoint(self, connection: Connection) -> None:
        # Not as long as a write would: a backup may be reading, and what is left the next start does.
        connection.exec_driver_sql("PRAGMA busy_timeout = 1000")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def trigger_statements(tables: Sequence[Timestamped]) -> dict[str, str]:
    """The triggers that must be there, by name."""
    return {f"update_{table.table}_updated_at": _trigger(table) for table in tables}


def _trigger(table: Timestamped) -> str:
    """Set `updated_at` when the writer did not; match the whole key, so that no other user's row is touched."""
    key = " AND ".join(f"{column} = NEW.{column}" for column in table.key)
    ours = " AND NEW.revision = OLD.revision"
    if table.counts_rewrites:
        ours += " AND NEW.rewrites = OLD.rewrites"
    condition = f"NEW.updated_at IS OLD.updated_at{ours}"
    action = f"UPDATE {table.table} SET updated_at = CURRENT_TIMESTAMP WHERE {key}"  # noqa: S608  # names of ours
    head = f"CREATE TRIGGER update_{table.table}_updated_at AFTER UPDATE ON {table.table}"
    return f"{head} WHEN {condition} BEGIN {action}; END"


def driver_connection(connection: Connection) -> sqlite3.Connection:
    """The sqlite3 connection under a SQLAlchemy connection."""
    raw = connection.connection.driver_connection
    if not isinstance(raw, sqlite3.Connection):
        raise TypeError(f"expected a sqlite3 connection, got {type(raw).__name__}")
    return raw
