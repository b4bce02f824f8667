"""Where clients meet servers that are killed: processes of their own over one store, each behind a proxy."""

import os
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    closing,
    contextmanager,
    suppress,
)
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import psycopg

from tests.support.postgresql import database_of, shared_server
from tests.support.processes import ServerProcess, environment, serving
from tests.support.proxy import Proxy, listening
from tests.support.service import new_postgresql


class Past(Protocol):
    """The way to a store past the service."""

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """What the store holds; a parameter is written '?'."""

    def execute(self, *statements: tuple[Any, ...]) -> None:
        """Change it, in one transaction; each statement has its parameters behind it."""

    def back_up(self) -> None:
        """Keep what it holds now."""

    def restore(self) -> None:
        """Put back what was kept.  No server may be running."""


class PastSqlite:
    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._path, timeout=10)) as connection:
            return connection.execute(sql, parameters).fetchall()

    def execute(self, *statements: tuple[Any, ...]) -> None:
        with closing(sqlite3.connect(self._path, timeout=10)) as connection, connection:
            for sql, *parameters in statements:
                connection.execute(sql, parameters)

    def back_up(self) -> None:
        with closing(sqlite3.connect(self._path, timeout=10)) as source, closing(sqlite3.connect(self._backup)) as to:
            source.backup(to)

    def restore(self) -> None:
        for suffix in ("-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        shutil.copyfile(self._backup, self._path)

    @property
    def _backup(self) -> Path:
        return self._path.with_name("backup.db")


class PastPostgresql:
    def __init__(self, url: str) -> None:
        self._connection: psycopg.Connection[Any] = shared_server().connect(database_of(url))
        self._tables = [name for (name,) in self.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]

    def close(self) -> None:
        self._connection.close()

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql.replace("?", "%s").encode(), parameters).fetchall()

    def execute(self, *statements: tuple[Any, ...]) -> None:
        with self._connection.transaction():
            for sql, *parameters in statements:
                self._connection.execute(sql.replace("?", "%s").encode(), parameters)

    def back_up(self) -> None:
        again = [f"CREATE TABLE saved.{table} AS TABLE {table}" for table in self._tables]
        one_moment = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
        self.execute(
            (one_moment,),
            ("DROP SCHEMA IF EXISTS saved CASCADE",),
            ("CREATE SCHEMA saved",),
            *((sql,) for sql in again),
        )

    def restore(self) -> None:
        self.execute(
            ("SET LOCAL session_replication_role = replica",),  # rows in any order, and no triggers
            *((f"DELETE FROM {table}",) for table in self._tables),  # noqa: S608  # names of ours
            *((f"INSERT INTO {table} TABLE saved.{table}",) for table in self._tables),
        )


class Servers:
    """Some servers over one store."""

    def __init__(self, past: Past, envs: list[dict[str, str]], log: Path) -> None:
        self.past, self.env = past, envs[0]
        self._envs, self._log = envs, log
        self._running: list[tuple[ServerProcess, ExitStack]] = []
        self._addresses = [""] * len(envs)  # where each was last
        self.proxies = [Proxy(partial(self._addresses.__getitem__, number)) for number in range(len(envs))]
        self._killed_workers = 0

    @property
    def address(self) -> str:
        return random.choice(self.proxies).address  # noqa: S311  # any will do

    @property
    def direct_address(self) -> str:
        """Of the first server, past its proxy."""
        return self._addresses[0]

    def token(self, role: str) -> str:
        return (Path(self.env["NOFX_GRPC_DATA_DIR"]) / "tokens" / role).read_text()

    def start(self) -> None:
        self._running = [self._begin(number) for number in range(len(self._envs))]

    def stop(self, how: signal.Signals) -> None:
        for server, stack in self._running:
            _end(server, stack, how)
        self._running = []

    def replace_one(self, how: signal.Signals) -> None:
        """End one server or, of one with workers, one of these; and have another in its place."""
        number = random.randrange(len(self._running))  # noqa: S311  # any will do
        server, stack = self._running[number]
        workers = _children(server.process.pid)
        if workers and how is signal.SIGKILL and self._killed_workers < 4:  # after six its parent gives up
            self._killed_workers += 1
            _kill(random.choice(workers))  # noqa: S311  # any will do
            return
        self._killed_workers = 0
        _end(server, stack, how)
        self._running[number] = self._begin(number)

    def _begin(self, number: int) -> tuple[ServerProcess, ExitStack]:
        stack = ExitStack()
        server = stack.enter_context(serving(self._envs[number], self._log))
        self._addresses[number] = server.address
        return server, stack


def _end(server: ServerProcess, stack: ExitStack, how: signal.Signals) -> None:
    workers = _children(server.process.pid)
    server.signal(how)
    server.wait()
    for worker in workers if how is signal.SIGKILL else ():  # they would go on for a little, on a file that is replaced
        _kill(worker)
        while _is_running(worker):
            time.sleep(0.01)
    stack.close()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _is_running(pid: int) -> bool:
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


SETTINGS = {
    "watch_bookmark_seconds": "0.5",
    "watch_poll_milliseconds": "50",
    "watch_queue_revisions": "100",
    "shutdown_grace_seconds": "2",
}


def one(directory: Path) -> Iterator[Servers]:
    """One server on SQLite, which can go back to a backup."""
    data = directory / "data"
    yield Servers(PastSqlite(data / "nofx.db"), [environment(data, **SETTINGS)], directory / "log")


def workers(directory: Path) -> Iterator[Servers]:
    """Two workers on one SQLite file."""
    data = directory / "data"
    yield Servers(PastSqlite(data / "nofx.db"), [environment(data, workers="2", **SETTINGS)], directory / "log")


def replicas(directory: Path) -> Iterator[Servers]:
    """Two servers on one PostgreSQL, each with a data directory of its own; the tokens are in the first."""
    first, second = directory / "first", directory / "second"
    with new_postgresql(first) as env:
        shutil.copytree(first, second)
        env |= {"NOFX_GRPC_DECISION_LOGS": "database"}  # in common they have only that
        envs = [environment(data, **SETTINGS) | env for data in (first, second)]
        past = PastPostgresql(env["NOFX_GRPC_DATABASE_URL"])
        try:
            yield Servers(past, envs, directory / "log")
        finally:
            past.close()


@asynccontextmanager
async def running(place: AbstractContextManager[Servers]) -> AsyncIterator[Servers]:
    """The servers of a place, and their proxies, until the block ends."""
    async with AsyncExitStack() as stack:
        made = stack.enter_context(place)
        made.start()
        stack.callback(made.stop, signal.SIGKILL)
        for proxy in made.proxies:
            await stack.enter_async_context(listening(proxy))
        yield made


PLACES = {"one": contextmanager(one), "workers": contextmanager(workers), "replicas": contextmanager(replicas)}
