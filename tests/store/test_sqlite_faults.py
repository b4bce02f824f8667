"""What only SQLite has: a disk that fills up, locks of other processes, files that cannot be written."""

import asyncio
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nofx_grpc.errors import StartError, StoreFull, StoreUnavailable
from nofx_grpc.store import users
from nofx_grpc.store.backend import backend_for
from nofx_grpc.store.engine import Connection, Database
from nofx_grpc.store.schema import migrate
from nofx_grpc.store.sqlite import FileLock, SqliteBackend, driver_connection
from tests.store.support import Store, Watched, make_sqlite, run_python, user
from tests.store.test_writer import create, in_one_batch, user_ids
from tests.support.clock import FakeClock

NOBODY = 65534


@pytest.fixture
def store(tmp_path: Path, clock: FakeClock) -> Store:
    return make_sqlite(tmp_path, clock)


@pytest.fixture
async def database(store: Store, watched: Watched) -> AsyncIterator[Database]:
    async with store.open(watched, lock_timeout=0.3, batch_seconds=0.5) as opened:
        yield opened


def path_of(store: Store) -> Path:
    return Path(store.url.removeprefix("sqlite:///"))


def big(id: str) -> Callable[[Connection], Any]:
    return lambda connection: users.resource.create(connection, user(id, otp_secret="x" * 200_000)).id


async def pragma(database: Database, sql: str) -> int:
    """Run a PRAGMA on the writer's connection; such a one needs no transaction of its own."""
    return int((await database.write(lambda connection: connection.exec_driver_sql(sql).scalar_one())).value)


async def test_a_full_database_fails_who_needs_room_and_goes_on_when_there_is_some(database: Database) -> None:
    pages = await pragma(database, "PRAGMA page_count")
    await pragma(database, f"PRAGMA max_page_count = {pages + 8}")
    small, *large = await in_one_batch(database, create("a"), big("b"), big("c"), big("d"))
    assert small == "a"
    assert [type(error) for error in large] == [StoreFull] * 3
    assert await user_ids(database) == ["a", "default"]
    await pragma(database, f"PRAGMA max_page_count = {pages + 1000}")
    assert await in_one_batch(database, big("b"), big("c")) == ["b", "c"]
    revisions = [(await database.read(users.resource.get, id)).value.revision for id in "abc"]
    assert revisions == [2, 3, 4]


FILE_LIMIT = """
import asyncio, json, resource, signal, sys
from nofx_grpc.store import users
from nofx_grpc.store.backend import backend_for
from nofx_grpc.store.engine import Database
from tests.store.support import make_store, user
from tests.support.clock import FakeClock

async def main():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    backend = backend_for(sys.argv[1])
    database = Database(backend, FakeClock(), make_store(sys.argv[1], FakeClock()).chain(), batch_seconds=0.5)
    database.open()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (backend.path.stat().st_size + 300_000, limit))
    def write(id):
        return database.write(lambda c: users.resource.create(c, user(id, otp_secret="x" * 20_000)).id)
    full = await asyncio.gather(*(write(f"u{i:02}") for i in range(30)), return_exceptions=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    again = await asyncio.gather(*(write(f"v{i:02}") for i in range(30)))
    rows = (await database.scan(lambda c: [(row.id, row.revision) for row in users.resource.page(c, limit=100)])).value
    await database.close()
    name = lambda answer: type(answer).__name__ if isinstance(answer, Exception) else answer.value
    print(json.dumps({"full": [name(a) for a in full], "again": [name(a) for a in again], "rows": rows}))

asyncio.run(main())
"""


def test_a_disk_that_fills_up_in_a_batch_fails_the_callers_and_the_store_goes_on(store: Store) -> None:
    """A limit on the size of files stands for the disk: it works everywhere, and SQLite meets it at COMMIT."""
    found = json.loads(run_python(FILE_LIMIT, store.url).splitlines()[-1])
    written = [name for name in found["full"] if name != "StoreFull"]
    assert "StoreFull" in found["full"] and found["again"] == [f"v{i:02}" for i in range(30)]
    rows = {id: revision for id, revision in found["rows"] if id != "default"}
    assert sorted(rows) == sorted(written + found["again"]), "those who were answered are there, and nobody else"
    assert sorted(rows.values()) == list(range(2, len(rows) + 2))


async def test_a_connection_closed_under_it_is_replaced(database: Database, watched: Watched) -> None:
    driver_connection(watched.connections[-1]).close()
    assert (await database.write(create("a"))).revision == 2


async def test_a_connection_closed_in_a_batch_costs_nobody_anything(database: Database, watched: Watched) -> None:
    runs: list[str] = []

    def close_once(connection: Connection) -> str:
        runs.append("run")
        users.resource.create(connection, user("b"))
        if len(runs) == 1:
            driver_connection(connection).close()
            connection.exec_driver_sql("SELECT 1")
        return "b"

    assert await in_one_batch(database, create("a"), close_once, create("c")) == ["a", "b", "c"]
    assert runs == ["run", "run"]
    assert await user_ids(database) == ["a", "b", "c", "default"]


async def test_a_store_whose_file_cannot_be_opened_any_more_says_so_and_recovers(
    database: Database, watched: Watched, store: Store
) -> None:
    path = path_of(store)
    driver_connection(watched.connections[-1]).close()
    hidden = path.rename(path.with_name("hidden"))
    path.mkdir()  # so that no new database is made in its place
    with pytest.raises(StoreUnavailable):
        await database.write(create("a"))
    path.rmdir()
    hidden.rename(path)
    assert (await database.write(create("a"))).revision == 2


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program has the database locked."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        other.close()


async def test_all_who_wait_for_a_locked_database_are_told_at_once(database: Database, store: Store) -> None:
    with locked(path_of(store)):
        started = time.monotonic()
        answers = await asyncio.gather(*(database.write(create(f"u{i}")) for i in range(300)), return_exceptions=True)
        waited = time.monotonic() - started
        assert {type(answer) for answer in answers} == {StoreUnavailable}
        assert 0.25 < waited < 1.5, "once, not once for each batch"
        assert await user_ids(database) == ["default"], "readers are not in its way"
    assert (await database.write(create("a"))).revision == 2


async def test_who_finds_the_write_lock_held_is_told_in_time(database: Database, store: Store) -> None:
    lock = FileLock(path_of(store).with_name("nofx.db.lock"))
    assert lock.acquire(1)
    with pytest.raises(StoreUnavailable, match="locked by another process"):
        await database.write(create("a"))
    lock.release()
    assert (await database.write(create("a"))).revision == 2


def test_a_lock_that_nobody_waits_for_any_more_is_passed_on(tmp_path: Path) -> None:
    """A writer that gave up must not get the lock later and sit on it: everyone else would be locked out."""
    first, impatient, third = (FileLock(tmp_path / "lock") for _ in range(3))
    assert first.acquire(1) and not impatient.acquire(0.05)
    first.release()
    time.sleep(0.2)  # until its turn has come
    assert third.acquire(2)
    third.release()
    assert impatient.acquire(2), "who gave up may come again"


def test_who_waits_for_the_lock_gets_it(tmp_path: Path) -> None:
    holder, waiter = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert holder.acquire(1) and not waiter.acquire(0.05) and not waiter.acquire(0.05)
    holder.release()
    assert waiter.acquire(2)
    assert not holder.acquire(0.05)
    waiter.release()
    assert holder.acquire(2)


@contextmanager
def as_nobody() -> Iterator[Path]:
    """A directory of a user to whom the modes of files mean something: to root they do not."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        if os.geteuid() != 0:
            yield Path(directory)
            return
        os.chown(directory, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        try:
            yield Path(directory)
        finally:
            os.seteuid(0)


def test_a_directory_that_cannot_be_written_is_told_at_the_start() -> None:
    with as_nobody() as directory:
        directory.chmod(0o500)
        with pytest.raises(StartError, match=r"nofx\.db cannot be used: .*Permission denied"):
            migrate(backend_for(f"sqlite:///{directory}/nofx.db"), lambda _: None)
        directory.chmod(0o700)


async def test_a_file_that_cannot_be_written_is_told(clock: FakeClock) -> None:
    with as_nobody() as directory:
        store = make_sqlite(directory, clock)
        path_of(store).chmod(0o400)
        with pytest.raises(StartError, match="read-only"):
            migrate(store.connect(), lambda _: None)


async def test_a_database_that_became_read_only_is_told(database: Database, watched: Watched) -> None:
    driver_connection(watched.connections[-1]).execute("PRAGMA query_only = ON")
    with pytest.raises(StoreUnavailable, match="read-only"):
        await database.write(create("a"))
    driver_connection(watched.connections[-1]).execute("PRAGMA query_only = OFF")
    assert (await database.write(create("a"))).revision == 2


def test_a_missing_directory_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="No such file or directory"):
        migrate(backend_for(f"sqlite:///{tmp_path}/missing/nofx.db"), lambda _: None)


def test_a_locked_database_is_told_at_the_start(store: Store) -> None:
    with locked(path_of(store)), pytest.raises(StartError, match="locked by another process"):
        migrate(store.connect(), lambda _: None)


def test_a_held_write_lock_is_told_at_the_start(store: Store) -> None:
    lock = FileLock(path_of(store).with_name("nofx.db.lock"))
    assert lock.acquire(1)
    with pytest.raises(StartError, match="locked by another process"):
        migrate(store.connect(), lambda _: None)


def test_only_the_owner_can_read_the_database(store: Store) -> None:
    with store.outside() as connection:
        connection.exec_driver_sql("UPDATE store_state SET revision = 2")
        modes = {path.name: oct(path.stat().st_mode & 0o777) for path in path_of(store).parent.iterdir()}
    assert modes == dict.fromkeys(["nofx.db", "nofx.db-wal", "nofx.db-shm", "nofx.db.lock"], "0o600")


async def test_the_write_ahead_log_is_empty_after_closing(store: Store) -> None:
    async with store.open() as database:
        await asyncio.gather(*(database.write(create(f"u{i}")) for i in range(20)))
    with sqlite3.connect(f"file:{path_of(store)}?immutable=1", uri=True) as alone:
        assert alone.execute("SELECT count(*) FROM users").fetchone() == (21,)


async def test_a_reader_does_not_hold_up_the_end(store: Store) -> None:
    async with store.open(SqliteBackend(path_of(store), lock_timeout=60)) as database:
        with sqlite3.connect(path_of(store), isolation_level=None) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM users").fetchone() == (1,)
            await database.write(create("ada"))
            async with asyncio.timeout(30):
                await database.close()
