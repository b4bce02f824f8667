"""Writing: many functions in one transaction, each whole or not at all, nobody answered before the commit."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from nofx_grpc.errors import AlreadyExists, AuditUnavailable, ShuttingDown, StoreUnavailable
from nofx_grpc.store import audit, users
from nofx_grpc.store.audit import AuditRecord
from nofx_grpc.store.engine import Connection, Database
from tests.store.support import Store, Watched, user


class Barrier:
    """A write function that keeps the writer busy until it is let go, so that others gather behind it."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, connection: Connection) -> None:
        self.reached.set()
        assert self.go_on.wait(10)


async def in_one_batch(database: Database, *functions: Callable[[Connection], Any]) -> list[Any]:
    """Run functions in one transaction; their values, or errors."""
    barrier = Barrier()
    first = asyncio.ensure_future(database.write(barrier))
    await asyncio.to_thread(barrier.reached.wait, 10)
    others = [asyncio.ensure_future(database.write(function)) for function in functions]
    await asyncio.sleep(0)
    barrier.go_on.set()
    await first
    answers = await asyncio.gather(*others, return_exceptions=True)
    return [answer if isinstance(answer, BaseException) else answer.value for answer in answers]


def create(id: str) -> Callable[[Connection], Any]:
    return lambda connection: users.resource.create(connection, user(id)).id


def fail(connection: Connection) -> None:
    users.resource.create(connection, user("trace"))
    raise ValueError("after the insert")


async def user_ids(database: Database) -> list[str]:
    return [row.id for row in (await database.read(users.resource.page, limit=1000)).value]


def refuse() -> None:
    raise OperationalError("COMMIT", {}, Exception("made up"))


@pytest.fixture
def long_batches(store: Store, watched: Watched) -> Any:
    """The store with batches that wait for slow functions."""
    return store.open(watched, lock_timeout=0.3, batch_seconds=0.5)


async def test_concurrent_writes_share_a_commit(long_batches: Any, watched: Watched) -> None:
    async with long_batches as database:
        ids = [f"u{i:02}" for i in range(50)]
        assert await in_one_batch(database, *map(create, ids)) == ids
        assert watched.count("COMMIT") == 1


async def test_a_batch_is_capped_in_count(store: Store, watched: Watched) -> None:
    async with store.open(watched, batch_size=10, batch_seconds=0.5) as database:
        await in_one_batch(database, *(create(f"u{i:02}") for i in range(29)))
        assert watched.count("COMMIT") == 3


async def test_a_batch_is_capped_in_time(store: Store, watched: Watched) -> None:
    async with store.open(watched, batch_seconds=0) as database:
        await in_one_batch(database, *(create(f"u{i}") for i in range(5)))
        assert watched.count("COMMIT") == 6


async def test_nobody_is_answered_before_the_commit(database: Database, watched: Watched, store: Store) -> None:
    barrier = Barrier()
    watched.before["COMMIT"] = lambda: barrier(None)  # type: ignore[arg-type]  # it needs no connection
    write = asyncio.ensure_future(database.write(create("ada")))
    await asyncio.to_thread(barrier.reached.wait, 10)
    await asyncio.sleep(0.05)
    assert not write.done()
    assert await user_ids(database) == ["default"]
    barrier.go_on.set()
    assert (await write).value == "ada"
    assert await user_ids(database) == ["ada", "default"]


async def test_an_error_fails_only_its_caller_and_leaves_no_trace(long_batches: Any) -> None:
    async with long_batches as database:
        first, failed, twin, last = await in_one_batch(database, create("a"), fail, create("a"), create("b"))
        assert (first, last) == ("a", "b")
        assert isinstance(failed, ValueError) and isinstance(twin, AlreadyExists)
        assert await user_ids(database) == ["a", "b", "default"]
        assert (await database.read(users.resource.get, "b")).value.revision == 3, "no gap where the failed ones were"


async def test_a_write_that_changes_nothing_tells_the_revision_that_it_saw(long_batches: Any, store: Store) -> None:
    async with long_batches as database, store.open() as other:
        await other.write(create("elsewhere"))
        assert (await database.write(lambda _: None)).revision == 2, "another process is further than this one knew"
        barrier = Barrier()
        first = asyncio.ensure_future(database.write(barrier))
        await asyncio.to_thread(barrier.reached.wait, 10)
        made, seen = (asyncio.ensure_future(database.write(fn)) for fn in (create("here"), lambda _: None))
        await asyncio.sleep(0)
        barrier.go_on.set()
        assert [(await first).revision, (await made).revision, (await seen).revision] == [2, 3, 3]


class LosesTheTransaction:
    """Ends the transaction under everybody's feet, as a full disk does, the first `times` times."""

    def __init__(self, times: int) -> None:
        self.times, self.runs = times, 0

    def __call__(self, connection: Connection) -> str:
        self.runs += 1
        users.resource.create(connection, user("loser"))
        if self.runs <= self.times:
            connection.exec_driver_sql("ROLLBACK")
            raise OperationalError("INSERT", {}, Exception("made up"))
        return "loser"


async def test_when_the_transaction_is_lost_each_function_runs_once_more(long_batches: Any) -> None:
    async with long_batches as database:
        loser = LosesTheTransaction(times=1)
        answers = await in_one_batch(database, create("a"), fail, loser, create("b"))
        assert (answers[0], answers[2:]) == ("a", ["loser", "b"]) and isinstance(answers[1], ValueError)
        assert loser.runs == 2
        assert await user_ids(database) == ["a", "b", "default", "loser"]
        assert sorted([(await database.read(users.resource.get, id)).value.revision for id in ("a", "b", "loser")]) == [
            2,
            3,
            4,
        ]


async def test_who_loses_the_transaction_again_is_alone_with_its_error(long_batches: Any) -> None:
    async with long_batches as database:
        loser = LosesTheTransaction(times=2)
        first, lost, last = await in_one_batch(database, create("a"), loser, create("b"))
        assert (first, last) == ("a", "b") and isinstance(lost, OperationalError)
        assert await user_ids(database) == ["a", "b", "default"]


async def test_when_the_commit_fails_each_function_runs_once_more(long_batches: Any, watched: Watched) -> None:
    async with long_batches as database:

        def refuse_once() -> None:
            watched.before.clear()
            refuse()

        watched.before["COMMIT"] = refuse_once
        assert await in_one_batch(database, create("a"), create("b")) == ["a", "b"]
        assert await user_ids(database) == ["a", "b", "default"]
        assert database.revision == 3


async def test_when_no_commit_works_everybody_is_told_and_nothing_stays(database: Database, watched: Watched) -> None:
    watched.before["COMMIT"] = refuse
    for failed in await asyncio.gather(*(database.write(create(id)) for id in "abc"), return_exceptions=True):
        assert isinstance(failed, OperationalError)
    assert await user_ids(database) == ["default"]
    watched.before.clear()
    assert (await database.write(create("a"))).revision == 2


async def test_a_commit_that_may_have_worked_is_not_repeated(database: Database, watched: Watched) -> None:
    watched.uncertain = True
    watched.before["COMMIT"] = refuse
    runs: list[str] = []
    with pytest.raises(StoreUnavailable, match="may have taken effect"):
        await database.write(lambda _: runs.append("run"))
    assert runs == ["run"]


async def test_a_function_whose_caller_has_gone_is_not_run(database: Database) -> None:
    barrier, runs = Barrier(), list[str]()
    first = asyncio.ensure_future(database.write(barrier))
    await asyncio.to_thread(barrier.reached.wait, 10)
    second = asyncio.ensure_future(database.write(lambda _: runs.append("second")))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.sleep(0)
    barrier.go_on.set()
    await first
    await database.write(lambda _: runs.append("third"))
    assert runs == ["third"]


def record(method: str) -> AuditRecord:
    return AuditRecord("somebody", "admin", method, "")


async def recorded(database: Database) -> list[str]:
    rows = await database.scan(
        lambda c: c.exec_driver_sql("SELECT method FROM audit_log ORDER BY chain_position").scalars().all()
    )
    return list(rows.value)


async def test_what_is_appended_is_durable_when_its_caller_is_answered(database: Database, watched: Watched) -> None:
    await database.append(audit.append, record("first"))
    assert await recorded(database) == ["first"]
    watched.before["COMMIT"] = refuse
    with pytest.raises(OperationalError):
        await database.append(audit.append, record("second"))
    watched.before.clear()
    assert await recorded(database) == ["first"]


async def test_an_append_that_fails_leaves_nothing(long_batches: Any) -> None:
    def append_and_fail(connection: Connection) -> None:
        audit.append(connection, record("never"))
        raise ValueError("after the record")

    async with long_batches as database:
        barrier = Barrier()
        first = asyncio.ensure_future(database.write(barrier))
        await asyncio.to_thread(barrier.reached.wait, 10)
        kept, failed = (
            asyncio.ensure_future(database.append(audit.append, record("kept"))),
            asyncio.ensure_future(database.append(append_and_fail)),
        )
        await asyncio.sleep(0)
        barrier.go_on.set()
        await asyncio.gather(first, kept)
        with pytest.raises(ValueError, match="after the record"):
            await failed
        assert await recorded(database) == ["kept"]


async def test_a_row_that_cannot_be_written_at_the_end_fails_only_its_caller(long_batches: Any) -> None:
    async with long_batches as database:

        def create_with_a_bad_record(connection: Connection) -> None:
            create("never")(connection)
            audit.append(connection, record(None))  # type: ignore[arg-type]  # what the table refuses

        first, failed, last = await in_one_batch(database, create("a"), create_with_a_bad_record, create("b"))
        assert (first, last) == ("a", "b") and isinstance(failed, AuditUnavailable)
        assert await user_ids(database) == ["a", "b", "default"]
        assert (await database.read(users.resource.get, "b")).value.revision == 3


async def test_closing_finishes_what_is_queued(store: Store) -> None:
    async with store.open() as database:
        writes = [asyncio.ensure_future(database.write(create(f"u{i}"))) for i in range(20)]
        await asyncio.sleep(0)
        await database.close()
        assert [(await write).value for write in writes] == [f"u{i}" for i in range(20)]
        with pytest.raises(ShuttingDown):
            await database.write(create("late"))
    async with store.open() as database:
        assert len(await user_ids(database)) == 21


async def test_a_stop_iteration_reaches_its_caller_and_the_others_theirs(long_batches: Any) -> None:
    """A future refuses a StopIteration; the rest of the batch must be answered all the same."""
    async with long_batches as database:
        stopped, made = await in_one_batch(database, lambda _: next(iter(())), create("a"))
        assert isinstance(stopped, RuntimeError) and made == "a"


async def test_an_exception_that_is_none_of_ours_does_not_end_the_writer(database: Database) -> None:
    def interrupt(connection: Connection) -> None:
        raise SystemExit("no function should, but one might")

    with pytest.raises(RuntimeError, match="SystemExit"):
        await database.write(interrupt)
    assert (await database.write(create("a"))).revision == 2
