"""What only PostgreSQL has: connections that are cut, and a server that goes away and comes back."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from psycopg import OperationalError

from nofx_grpc.errors import StoreUnavailable
from nofx_grpc.store import postgresql, retry, revisions, users
from nofx_grpc.store.backend import backend_for
from nofx_grpc.store.engine import Connection, Database
from tests.store.support import Store, Watched, make_store, postgresql_store, user
from tests.store.test_writer import create, in_one_batch, user_ids
from tests.support.clock import FakeClock
from tests.support.postgresql import Server, database_of, shared_server


@pytest.fixture
def store(clock: FakeClock) -> Iterator[Store]:
    with postgresql_store(clock) as made:
        yield made


class Certain(Watched):
    """As `Watched`, but the backend itself says what a failed COMMIT means."""

    def commit_is_uncertain(self, error: Any) -> bool:
        return self.backend.commit_is_uncertain(error)


@pytest.fixture
def watched(store: Store) -> Certain:
    return Certain(store.connect())


@pytest.fixture
async def database(store: Store, watched: Certain) -> AsyncIterator[Database]:
    async with store.open(watched, lock_timeout=0.3, batch_seconds=0.5) as opened:
        yield opened


def cut(store: Store) -> None:
    """Cut every connection to the store."""
    shared_server().end_sessions(database_of(store.url))


def once(fn: Callable[[], object]) -> Callable[[], None]:
    """`fn` for the first call, nothing for those that follow."""
    left = [fn]

    def run() -> None:
        if left:
            left.pop()()

    return run


# ---- connections


async def test_connections_cut_between_calls_are_made_anew(database: Database, store: Store) -> None:
    await database.write(create("a"))
    assert await user_ids(database) == ["a", "default"]
    assert (await database.scan(users.resource.get, "a")).value.id == "a"
    cut(store)
    assert await user_ids(database) == ["a", "default"]
    assert (await database.scan(users.resource.get, "a")).value.id == "a"
    assert (await database.write(create("b"))).revision == 3


async def test_a_connection_cut_before_the_commit_costs_nobody_anything(database: Database, store: Store) -> None:
    runs: list[str] = []

    def cut_the_first_time(connection: Connection) -> str:
        runs.append("run")
        users.resource.create(connection, user("b"))
        if len(runs) == 1:
            cut(store)
        return str(users.resource.get(connection, "b").id)

    assert await in_one_batch(database, create("a"), cut_the_first_time, create("c")) == ["a", "b", "c"]
    assert runs == ["run", "run"]
    assert await user_ids(database) == ["a", "b", "c", "default"]
    assert (await database.read(revisions.read_state)).revision == 4


async def test_a_connection_cut_at_the_commit_is_told_and_nothing_is_repeated(
    database: Database, store: Store, watched: Certain
) -> None:
    watched.before["COMMIT"] = once(lambda: cut(store))
    runs: list[str] = []

    def run(connection: Connection) -> None:
        runs.append("run")
        users.resource.create(connection, user("a"))

    with pytest.raises(StoreUnavailable, match="may have taken effect"):
        await database.write(run)
    assert runs == ["run"]
    assert (await database.write(create("b"))).value == "b", "and the next one is served"


async def test_a_commit_that_worked_and_could_not_say_so_is_not_repeated(
    database: Database, store: Store, watched: Certain
) -> None:
    """The server commits, and the connection is gone before its answer comes."""

    def commit_behind_its_back() -> None:
        watched.connections[-1].connection.cursor().execute("COMMIT")
        cut(store)

    watched.before["COMMIT"] = once(commit_behind_its_back)
    with pytest.raises(StoreUnavailable, match="may have taken effect"):
        await database.write(create("a"))
    assert await user_ids(database) == ["a", "default"]
    assert (await database.write(create("b"))).revision == 3


async def test_a_database_that_is_lost_again_and_again_is_tried_for_one_caller_and_told_to_all(
    database: Database, store: Store
) -> None:
    runs: list[str] = []

    def cut_once_all_are_there(connection: Connection) -> None:
        runs.append("run")
        if len(runs) >= 3:
            cut(store)
        users.resource.get(connection, "default")

    answers = await in_one_batch(database, *[cut_once_all_are_there] * 3)
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 3
    assert 4 < len(runs) < 12, "the first one alone is tried again"
    assert await user_ids(database) == ["default"]
    assert (await database.write(create("b"))).value == "b", "and the next one is served"


def test_where_each_try_takes_long_there_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.1, 0.3, 5.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    assert len(list(retry.pauses())) == 2


def test_a_first_try_that_took_long_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As to connect does where a host takes the connection and says nothing."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    left = retry.pauses()
    now[0] = 5.0
    assert list(left) == []


async def test_a_read_cut_in_the_middle_is_done_again(database: Database, store: Store) -> None:
    for way in (database.read, database.scan):
        cuts = iter([True, False])

        def look(connection: Connection, cuts: Iterator[bool] = cuts) -> str:
            if next(cuts):
                cut(store)
            return str(users.resource.get(connection, "default").id)

        assert (await way(look)).value == "default"


async def test_a_caller_that_goes_away_leaves_its_connection_to_others(store: Store) -> None:
    backend = backend_for(store.url, pool_size=1)
    async with store.open(backend) as database:
        slow = asyncio.ensure_future(database.read(lambda c: c.exec_driver_sql("SELECT pg_sleep(5)").scalar()))
        await asyncio.sleep(0.2)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        async with asyncio.timeout(2):
            assert (await database.read(users.resource.get, "default")).value.id == "default"


# ---- a server that goes away


@pytest.fixture
def own_server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def own_store(own_server: Server, clock: FakeClock) -> Store:
    return make_store(own_server.url(own_server.create()), clock)


async def test_a_restart_of_the_server_is_waited_for(own_server: Server, own_store: Store) -> None:
    """Writers and readers go on right through it: nobody is refused, nothing is lost, nothing is done twice."""
    async with own_store.open() as database:
        answered: list[str] = []
        uncertain: list[str] = []
        stop = threading.Event()

        async def write(name: str) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                id = f"{name}-{number}"
                try:
                    await database.write(create(id))
                    answered.append(id)
                except StoreUnavailable as error:
                    assert "may have taken effect" in str(error), "nothing else is let through by so short a restart"
                    uncertain.append(id)

        async def read() -> None:
            while not stop.is_set():
                await database.read(users.resource.get, "default")
                await database.scan(users.resource.get, "default")

        callers = [asyncio.ensure_future(work) for work in (write("a"), write("b"), read(), read())]
        await asyncio.sleep(0.3)
        before = len(answered)
        await asyncio.to_thread(own_server.stop)
        await asyncio.to_thread(own_server.start)
        await asyncio.sleep(0.3)
        stop.set()
        await asyncio.gather(*callers)
        assert 0 < before < len(answered)
        state = (await database.read(revisions.read_state)).value
    with own_store.outside() as connection:
        found = connection.exec_driver_sql("SELECT id, revision FROM users WHERE id <> 'default'").fetchall()
    ids = {row.id for row in found}
    assert set(answered) <= ids <= set(answered) | set(uncertain)
    assert sorted(row.revision for row in found) == list(range(2, state.revision + 1)), "no gap, none twice"


async def test_a_full_queue_of_notifications_refuses_no_write(
    own_server: Server, own_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some session of the cluster, of whatever database, listens and does not go on."""
    own_server.execute("ALTER SYSTEM SET max_notify_queue_pages = 64")
    own_server.stop()
    own_server.start()
    monkeypatch.setattr(postgresql, "QUIET_SECONDS", 0.3)
    async with own_store.open() as database:
        with own_server.connect() as idle:
            idle.execute("LISTEN anything")
            idle.execute("BEGIN")
            with own_server.connect() as other, pytest.raises(OperationalError, match="NOTIFY"):
                for number in range(1000):
                    other.execute("SELECT pg_notify('anything', %s)", [str(number).ljust(7000)])
            answers = await in_one_batch(database, create("a"), create("b"))
            assert answers == ["a", "b"]
            assert (await database.write(create("c"))).revision == 4
            assert capsys.readouterr().out.count("not_notifying") == 1, "nor is it tried again at each write"
        assert own_server.execute("SELECT pg_notification_queue_usage()") == [(0.0,)]
        await asyncio.sleep(0.3)
        heard = asyncio.Queue[int]()
        listening = asyncio.ensure_future(database.listen(heard.put_nowait))
        async with asyncio.timeout(10):
            assert await heard.get() == 0
            await database.write(create("d"))
            assert await heard.get() == 5, "and later they are told of again"
        listening.cancel()


async def test_a_server_that_stays_away_is_told_in_time_and_found_again(own_server: Server, own_store: Store) -> None:
    async with own_store.open() as database:
        await database.write(create("a"))
        own_server.stop()
        began = time.monotonic()
        for attempt in (database.read(users.resource.get, "a"), database.write(create("b"))):
            with pytest.raises(StoreUnavailable, match=r"cannot be reached|shutting down"):
                await attempt
        assert 1 < time.monotonic() - began < 15
        own_server.start()
        assert (await database.read(users.resource.get, "a")).value.id == "a"
        assert (await database.write(create("b"))).revision == 3
