"""What only PostgreSQL says: conflicts, limits, and what a client is told of them."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from sqlalchemy import insert
from sqlalchemy.exc import DBAPIError, OperationalError

from nofx_grpc.errors import StoreFull, StoreUnavailable
from nofx_grpc.store import postgresql, revisions, schema, users
from nofx_grpc.store.backend import backend_for
from nofx_grpc.store.engine import Connection, Database
from nofx_grpc.store.moving.copy import reading
from nofx_grpc.store.schema import SchemaState
from tests.store.support import Store, postgresql_store, user
from tests.store.test_writer import create, user_ids
from tests.support.clock import FakeClock
from tests.support.postgresql import database_of, shared_server


@pytest.fixture
def store(clock: FakeClock) -> Iterator[Store]:
    with postgresql_store(clock) as made:
        yield made


@pytest.fixture
async def database(store: Store) -> AsyncIterator[Database]:
    async with store.open(lock_timeout=0.3) as opened:
        yield opened


def sleep_past_the_limit(connection: Connection) -> None:
    connection.exec_driver_sql("SELECT pg_sleep(1)")


async def test_who_finds_no_connection_in_time_is_told(store: Store) -> None:
    backend = backend_for(store.url, pool_size=1, statement_timeout=0.3)
    async with store.open(backend) as database:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(database.read(lambda c: c.exec_driver_sql("SELECT pg_sleep(0.25)").scalar()))
            await asyncio.sleep(0.05)
            others = [group.create_task(database.read(revisions.read_state)) for _ in range(5)]
        assert (await first).value == "" and all(task.result().revision == 1 for task in others)
        blocked = [asyncio.ensure_future(database.read(sleep_past_the_limit)) for _ in range(4)]
        results = await asyncio.gather(*blocked, return_exceptions=True)
        assert all(isinstance(result, StoreUnavailable) for result in results)
        assert any("connections to the database are in use" in str(result) for result in results)


async def test_a_server_that_takes_no_more_connections(store: Store) -> None:
    shared_server().execute(f"ALTER DATABASE {database_of(store.url)} CONNECTION LIMIT 0")
    shared_server().execute("DROP ROLE IF EXISTS limited")
    shared_server().execute("CREATE ROLE limited LOGIN")
    try:
        url = store.url.replace("postgres@", "limited@")
        with pytest.raises(DBAPIError) as refused:
            backend_for(url).open_writer()
        explained = backend_for(url).explain(refused.value)
        assert isinstance(explained, StoreUnavailable)
    finally:
        shared_server().execute(f"ALTER DATABASE {database_of(store.url)} CONNECTION LIMIT -1")


class Sqlstate(psycopg.OperationalError):
    """An error as the driver makes it for a SQLSTATE."""

    def __init__(self, code: str) -> None:
        super().__init__("made up")
        self.sqlstate = code


def failing(code: str, times: int, runs: list[str]) -> Callable[[Connection], str]:
    def run(connection: Connection) -> str:
        runs.append("run")
        users.resource.create(connection, user("a"))
        if len(runs) <= times:
            raise OperationalError("UPDATE", {}, Sqlstate(code))
        return "a"

    return run


@pytest.mark.parametrize("code", ["40001", "40P01"])
async def test_a_conflict_is_tried_again_a_few_times(database: Database, code: str) -> None:
    runs: list[str] = []
    assert (await database.write(failing(code, 3, runs))).value == "a"
    assert len(runs) == 4
    assert (await database.read(users.resource.get, "a")).value.revision == 2


async def test_a_conflict_that_does_not_end_is_told(database: Database) -> None:
    runs: list[str] = []
    with pytest.raises(StoreUnavailable, match="others are changing the same rows"):
        await database.write(failing("40001", 99, runs))
    assert 3 < len(runs) < 9, "bounded"
    assert await user_ids(database) == ["default"]


async def test_a_real_deadlock_is_tried_again(database: Database, store: Store) -> None:
    """A foreign writer has one row and wants the revision's, which the writer has; the writer wants that one row."""
    await database.write(create("a"))
    foreign = psycopg.connect(store.url.replace("+psycopg", ""), autocommit=True)
    foreign.execute("SET deadlock_timeout = '10s'")  # so that the other one is who finds out
    foreign.execute("BEGIN")
    foreign.execute("UPDATE users SET otp_verified = true WHERE id = 'a'")
    with ThreadPoolExecutor(1) as thread:
        runs, begun = list[Any](), threading.Event()

        def want_the_row(connection: Connection) -> None:
            connection.exec_driver_sql("SET LOCAL deadlock_timeout = '50ms'; SET LOCAL lock_timeout = '5s'")
            if not runs:
                begun.set()
                runs.append(thread.submit(foreign.execute, "UPDATE store_state SET compacted_revision = 1"))
                time.sleep(0.2)
            users.resource.put(connection, users.resource.get(connection, "a"))
            runs.append("done")

        writing = asyncio.ensure_future(database.write(want_the_row))
        await asyncio.to_thread(begun.wait)
        await asyncio.sleep(0.1)
        await asyncio.to_thread(runs[0].result)
        foreign.execute("COMMIT")
        assert (await writing).revision == 3
    foreign.close()
    assert runs[1:] == ["done"]


async def test_a_writer_that_waits_too_long_for_the_others_is_told_and_appends_go_on(store: Store) -> None:
    async with store.open(backend_for(store.url, lock_timeout=0.2)) as database:
        with store.outside() as other:
            other.exec_driver_sql("BEGIN")
            other.exec_driver_sql("SELECT 1 FROM store_state FOR UPDATE")
            with pytest.raises(StoreUnavailable, match="for longer than NOFX_GRPC_LOCK_TIMEOUT_SECONDS"):
                await database.write(create("a"))
            await database.append(lambda connection: None)
            other.exec_driver_sql("COMMIT")
        assert (await database.write(create("a"))).revision == 2


def test_what_is_answered_is_on_disk_whatever_the_database_is_set_to(store: Store) -> None:
    """It is off in the server of the tests; who asks for more than `on` keeps it."""
    ask = "SHOW synchronous_commit"
    server, name = shared_server(), database_of(store.url)
    assert server.execute(ask, name) == [("off",)]
    with store.outside() as connection:
        assert connection.exec_driver_sql(ask).scalar() == "on"
    server.execute(f"ALTER DATABASE {name} SET synchronous_commit = remote_apply")
    try:
        with store.outside() as connection:
            assert connection.exec_driver_sql(ask).scalar() == "remote_apply"
    finally:
        server.execute(f"ALTER DATABASE {name} RESET synchronous_commit")


async def test_a_server_that_was_stopped_in_the_middle_of_a_write_keeps_nobody_waiting_for_long(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "WRITER_IDLE_SECONDS", 0.3)
    held, goes_on, runs = threading.Event(), threading.Event(), list[str]()

    def stop_the_first_time(connection: Connection) -> None:
        users.resource.create(connection, user("a"))
        runs.append("run")
        if len(runs) == 1:
            held.set()
            goes_on.wait(60)

    async with store.open(backend_for(store.url)) as stopped, store.open(backend_for(store.url)) as other:
        writing = asyncio.ensure_future(stopped.write(stop_the_first_time))
        await asyncio.to_thread(held.wait)
        assert (await other.write(create("b"))).revision == 2
        goes_on.set()
        assert (await writing).revision == 3 and runs == ["run", "run"]


async def test_a_migration_that_waits_keeps_nobody_from_the_tables(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup reads for long; what would change its tables gives way to those who come after."""
    tries = list[str]()

    def change(connection: Connection) -> None:
        tries.append("try")
        connection.exec_driver_sql("ALTER TABLE users ADD COLUMN shoe_size TEXT")

    monkeypatch.setattr(schema, "state_of", lambda _: SchemaState.OLD)
    monkeypatch.setattr(schema, "create_tables", change)
    monkeypatch.setattr(schema, "_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(postgresql, "_TABLE_WAIT_SECONDS", 0.3)
    async with store.open(backend_for(store.url, lock_timeout=2)) as database:
        with reading(store.connect()) as backup:
            users.resource.get(backup, "default")
            migrating = asyncio.create_task(asyncio.to_thread(schema.migrate, store.connect(), lambda _: None))
            for _ in range(600):
                assert (await database.read(users.resource.get, "default")).value.id == "default"
                if len(tries) == 3:
                    break
                await asyncio.sleep(0.05)
            assert len(tries) == 3 and not migrating.done()
        assert await migrating is True


async def test_a_statement_that_takes_too_long_is_ended(store: Store) -> None:
    async with store.open(backend_for(store.url, statement_timeout=0.2)) as database:
        for way in (database.read, database.scan, database.write):
            with pytest.raises(StoreUnavailable, match="NOFX_GRPC_DATABASE_STATEMENT_SECONDS"):
                await way(sleep_past_the_limit)
        assert (await database.write(create("a"))).revision == 2


async def test_a_read_only_database_is_told_and_read_from(database: Database, store: Store) -> None:
    await database.write(create("a"))
    server, name = shared_server(), database_of(store.url)
    server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    server.end_sessions(name)
    with pytest.raises(StoreUnavailable, match="read-only"):
        await database.write(create("b"))
    assert (await database.read(users.resource.get, "a")).value.id == "a"
    server.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    server.end_sessions(name)
    assert (await database.write(create("b"))).revision == 3


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        ("53100", StoreFull, "no room"),
        ("53300", StoreUnavailable, "no connection to spare"),
        ("57P01", StoreUnavailable, "shutting down"),
        ("57P03", StoreUnavailable, "shutting down or starting"),
        ("08006", StoreUnavailable, "cannot be reached"),
        ("58030", StoreUnavailable, "the server's log"),
        ("28P01", StoreUnavailable, "refuses this service"),
    ],
)
def test_what_a_client_is_told(store: Store, code: str, kind: type[Exception], text: str) -> None:
    explained = store.connect().explain(OperationalError("SELECT", {}, Sqlstate(code)))
    assert type(explained) is kind and text in str(explained)


@pytest.mark.parametrize("code", ["23505", "22001", "42P01"])
def test_an_error_that_says_nothing_of_the_databases_state_is_not_explained(store: Store, code: str) -> None:
    assert store.connect().explain(OperationalError("SELECT", {}, Sqlstate(code))) is None


async def test_an_errors_text_holds_nothing_of_the_row(store: Store) -> None:
    with store.outside() as connection, pytest.raises(DBAPIError) as caught:
        connection.execute(insert(users.users), {"id": "x", "email": "hunter2", "password_hash": "hunter3"})
    assert "hunter" not in str(caught.value) and "hunter" not in str(caught.value.orig)


@pytest.mark.parametrize("prepared", [True, False])
async def test_what_is_repeated_is_prepared_unless_a_pooler_forbids_it(store: Store, prepared: bool) -> None:
    def statements(connection: Connection) -> int:
        users.resource.get(connection, "default")
        return int(connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar_one())

    async with store.open(backend_for(store.url, prepared=prepared)) as database:
        for run in (database.write, database.read):
            answers = [(await run(statements)).value for _ in range(10)]
            assert (answers[-1] > 0) is prepared, answers
