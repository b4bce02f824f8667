"""Everything that only PostgreSQL knows: its connections and their settings, triggers and error codes."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import structlog
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, NullPool, Table, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from nofx_grpc.errors import NofxError
from nofx_grpc.store import postgresql_errors as errors
from nofx_grpc.store.backend import PATIENCE_SECONDS
from nofx_grpc.store.metadata import Timestamped
from nofx_grpc.store.postgresql_listen import Listener, notify
from nofx_grpc.store.postgresql_reads import PooledReads
from nofx_grpc.store.postgresql_triggers import install_triggers
from nofx_grpc.store.postgresql_url import parameters_of, shown
from nofx_grpc.store.reads import COMMITTED, Follow

logger = structlog.get_logger(__name__)

_DRIVER = "postgresql+psycopg://"
# Any number that no other program's advisory locks in this database have.
_MIGRATION_LOCK = 7_306_080_812
_TABLE_WAIT_SECONDS = 1.0
# How long nothing is told of commits after the queue of notifications was found full.
QUIET_SECONDS = 60.0
QUEUE_FULL = "54000"
# How long a transaction of a writer may do nothing; one that works does so for milliseconds.
WRITER_IDLE_SECONDS = 3.0

# What is answered is on disk, whatever the database is set to; who asks for more than that, of standbys, keeps it.
_DURABLE = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"

# Which cluster it is, and how often it was promoted.
_TIMELINE = "system_identifier || '/' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)"
_CONTROL = "pg_control_system()"
_NO_TIMELINE = {"42883", "42501", "0A000"}  # other engines may not know the function, or not let everybody ask
_POSITION = (
    f"SELECT revision, keyring_version, history_id, {_TIMELINE}, timeline"  # noqa: S608  # of ours only
    f" FROM store_state, database_timeline, {_CONTROL}"
)
_POSITION_WITHOUT = "SELECT revision, keyring_version, history_id, '', '' FROM store_state"


@dataclass(frozen=True, slots=True)
class PostgresqlOptions:
    """How many connections read at one time, how long a statement may take and a lock is waited for, and whether what
    is repeated is prepared.
    """

    pool_size: int = 10
    statement_seconds: float = 30.0
    lock_seconds: float = 5.0
    prepared: bool = True


class NoLock:
    """Writers wait for each other at the row of the revision: see `PostgresqlBackend.claim`."""

    def acquire(self, timeout: float) -> bool:
        return True

    def release(self) -> None:
        pass


class PostgresqlBackend:
    """One PostgreSQL database, or one that speaks its protocol.  Raises ValueError for a URL that is none."""

    name = "postgresql"
    begin_read = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    begin_write = "BEGIN ISOLATION LEVEL READ COMMITTED"
    claim: str | None = f"{COMMITTED} FOR NO KEY UPDATE"

    def __init__(self, url: str, options: PostgresqlOptions) -> None:
        self._parameters, self._options = parameters_of(url), options
        self.write_lock = NoLock()
        self._notify_from = math.inf  # the time from which on commits are told of
        self.position = _POSITION

    def exists(self) -> bool:
        return True  # or else to connect fails, and says so

    def open_writer(self) -> Connection:
        connection = self._writers.connect()
        try:
            connection.exec_driver_sql(_DURABLE)
            self._notify_from = 0.0 if _can_notify(connection) else math.inf
            self.position = _POSITION if self._knows_timeline(connection) else _POSITION_WITHOUT
        except BaseException:
            connection.close()
            raise
        return connection

    def _knows_timeline(self, connection: Connection) -> bool:
        """Whether the database tells of promotions; the log is told if not."""
        try:
            connection.exec_driver_sql(f"SELECT {_TIMELINE} FROM {_CONTROL}")  # noqa: S608  # of ours only
        except DBAPIError as error:
            if errors.code_of(error) not in _NO_TIMELINE:
                raise
            if self.position != _POSITION_WITHOUT:  # said once
                logger.warning("timeline_unknown", error=str(error.orig), so="a failover is not noticed")
            return False
        return True

    def open_reader(self) -> Connection:
        return self._readers.connect()

    def open_inspector(self) -> Connection:
        return self._readers.connect()

    @cached_property
    def _writers(self) -> Engine:
        return self._engine(read_only=False)

    @cached_property
    def _readers(self) -> Engine:
        return self._engine(read_only=True)

    def _engine(self, *, read_only: bool) -> Engine:
        engine = create_engine(_DRIVER, connect_args=self._arguments(read_only=read_only), **_ENGINE_OPTIONS)
        event.listen(engine, "handle_error", errors.leave_out_rows)
        event.listen(engine, "handle_error", self._pause_notifying)
        return engine

    @contextmanager
    def snapshot(self, connection: Connection) -> Iterator[None]:
        connection.exec_driver_sql(self.begin_read)
        try:
            for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
                connection.exec_driver_sql(f"SET LOCAL {limit} = 0")
            yield
        finally:
            with suppress(DBAPIError):  # the error that led here tells more
                connection.exec_driver_sql("ROLLBACK")

    def advance_counters(self, connection: Connection, tables: Sequence[Table]) -> None:
        for table in tables:
            counter = table.autoincrement_column
            if counter is not None:
                connection.exec_driver_sql(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', '{counter.name}'),"  # noqa: S608  # names of ours
                    f" COALESCE(MAX({counter.name}), 0) + 1, false) FROM {table.name}"
                )

    def bounded_reads(self, follow: Follow) -> PooledReads:
        engine = create_async_engine(_DRIVER, connect_args=self._arguments(read_only=True), **_ENGINE_OPTIONS)
        event.listen(engine.sync_engine, "handle_error", errors.leave_out_rows)
        options = self._options
        return PooledReads(self, engine, follow, size=options.pool_size, wait_seconds=options.statement_seconds)

    def _arguments(self, *, read_only: bool) -> dict[str, Any]:
        settings: dict[str, object] = {
            "timezone": "UTC",  # of times that a foreign writer writes without a zone
            "statement_timeout": _milliseconds(self._options.statement_seconds),
            "lock_timeout": _milliseconds(self._options.lock_seconds),
            "idle_in_transaction_session_timeout": _milliseconds(self._idle_seconds(read_only=read_only)),
        }
        if read_only:
            settings["default_transaction_read_only"] = "on"
        ours = " ".join(f"-c {name}={value}" for name, value in settings.items())
        arguments: dict[str, Any] = {"options": f"{self._parameters.get('options', '')} {ours}".strip()}
        if read_only and self._parameters.get("target_session_attrs") == "read-write":
            # A session of ours that only reads is none that may write, and would be turned away everywhere.
            arguments["target_session_attrs"] = "primary"
        if not self._options.prepared:
            arguments["prepare_threshold"] = None
        return self._parameters | arguments

    def _idle_seconds(self, *, read_only: bool) -> float:
        """A writer that was stopped in the middle keeps all others waiting, but for less than they are ready to."""
        seconds = self._options.statement_seconds
        return seconds if read_only else min(seconds, WRITER_IDLE_SECONDS)

    def describe(self) -> str:
        return shown(self._parameters)

    @contextmanager
    def schema_transaction(self, connection: Connection) -> Iterator[None]:
        connection.exec_driver_sql(self.begin_write)
        try:
            # Another replica that migrates is waited for, however long a statement of its migration takes.
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_milliseconds(PATIENCE_SECONDS)}")
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
            # But a table that somebody reads is not: whoever comes after would wait behind this transaction.
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_milliseconds(_TABLE_WAIT_SECONDS)}")
            yield
            connection.exec_driver_sql("COMMIT")
        finally:
            with suppress(DBAPIError):  # the error that led here tells more
                if self.in_transaction(connection):
                    connection.exec_driver_sql("ROLLBACK")

    def install_triggers(self, connection: Connection, tables: Sequence[Timestamped]) -> None:
        install_triggers(connection, tables)

    def commit(self, revision: int | None) -> str:
        # Sent as one: each round trip to the server is time that all who write wait.
        return f"{notify(revision)}; COMMIT" if revision is not None and self._notifies else "COMMIT"

    @property
    def _notifies(self) -> bool:
        return time.monotonic() >= self._notify_from

    def _pause_notifying(self, context: ExceptionContext) -> None:
        """Where somebody lets the queue of notifications run full, COMMIT fails for what is only a hint."""
        told = (context.statement or "").startswith("NOTIFY") and self._notifies
        if told and errors.code_of(context.original_exception) == QUEUE_FULL:
            self._notify_from = time.monotonic() + QUIET_SECONDS
            logger.warning("not_notifying", error="the queue of notifications is full", for_seconds=QUIET_SECONDS)

    def listener(self) -> Listener:
        return Listener(self._arguments(read_only=True))

    def in_transaction(self, connection: Connection) -> bool:
        return not self.is_lost(connection) and _driver(connection).info.transaction_status in _OPEN

    def is_lost(self, connection: Connection) -> bool:
        return connection.closed or connection.invalidated or _driver(connection).closed

    def explain(self, error: BaseException) -> NofxError | None:
        return errors.explained(error)

    def is_transient(self, error: BaseException) -> bool:
        return errors.is_transient(error)

    def is_in_use(self, error: BaseException) -> bool:
        return errors.code_of(error) == errors.LOCKED

    def commit_is_uncertain(self, error: DBAPIError) -> bool:
        return errors.is_uncertain(error)

    def checkpoint(self, connection: Connection) -> None:
        """The server sees to it."""


_ENGINE_OPTIONS: dict[str, Any] = {
    "poolclass": NullPool,
    "isolation_level": "AUTOCOMMIT",
    "hide_parameters": True,
    "use_native_hstore": False,  # it would be asked for on each new connection
}
_OPEN = {TransactionStatus.INTRANS, TransactionStatus.INERROR}


def _can_notify(connection: Connection) -> bool:
    """Whether the database knows NOTIFY: not each that speaks PostgreSQL's protocol does."""
    try:
        connection.exec_driver_sql(notify(0))
    except DBAPIError as error:
        if errors.is_lost(error):
            raise
        return errors.code_of(error) == QUEUE_FULL
    return True


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _driver(connection: Connection) -> Any:
    """The psycopg connection, synchronous or not, under a SQLAlchemy connection."""
    return connection.connection.driver_connection
