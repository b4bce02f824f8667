"""How far the store is: on PostgreSQL those who ask at one time share an answer, and none gets one from before."""

import asyncio
from collections.abc import Iterator

import pytest

from nofx_grpc.errors import StoreUnavailable
from nofx_grpc.store import postgresql_reads
from nofx_grpc.store.postgresql_reads import Held
from nofx_grpc.store.reads import Committed
from tests.store.support import Store, postgresql_store
from tests.store.test_writer import create
from tests.support.clock import FakeClock

ASKERS = 40


@pytest.fixture
def on_postgresql(clock: FakeClock) -> Iterator[Store]:
    with postgresql_store(clock) as made:
        yield made


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[Held]:
    """A growing list of the questions that were sent."""
    sent: list[Held] = []
    ask = postgresql_reads._read_committed

    async def counted(held: Held) -> Committed:
        sent.append(held)
        return await ask(held)

    monkeypatch.setattr(postgresql_reads, "_read_committed", counted)
    return sent


async def test_many_who_ask_at_once_ask_once(on_postgresql: Store, questions: list[Held]) -> None:
    async with on_postgresql.open() as db:
        assert set(await asyncio.gather(*(db.latest() for _ in range(ASKERS)))) == {1}
        assert len(questions) == 1


async def test_no_answer_is_older_than_its_question(store: Store) -> None:
    """What one server has committed is known at the other to whoever asks then, however many are asking already."""
    async with store.open() as writer, store.open() as other:
        done = False

        async def ask_all_the_time() -> None:
            while not done:
                await other.latest()
                await asyncio.sleep(0)

        asking = [asyncio.create_task(ask_all_the_time()) for _ in range(ASKERS)]
        for number in range(100):
            made = (await writer.write(create(f"u{number}"))).revision
            assert await other.latest() >= made
        done = True
        await asyncio.gather(*asking)


async def test_one_who_goes_away_takes_the_answer_from_nobody(on_postgresql: Store) -> None:
    async with on_postgresql.open() as db:
        asked = [asyncio.create_task(db.latest()) for _ in range(ASKERS)]
        await asyncio.sleep(0)
        asked[0].cancel()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(answers[0], asyncio.CancelledError) and set(answers[1:]) == {1}


async def test_all_who_ask_are_told_that_it_fails_and_the_next_ask_anew(
    on_postgresql: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(held: Held) -> Committed:
        raise StoreUnavailable("the database cannot be reached")

    async with on_postgresql.open() as db:
        with monkeypatch.context() as broken:
            broken.setattr(postgresql_reads, "_read_committed", fail)
            answers = await asyncio.gather(*(db.latest() for _ in range(3)), return_exceptions=True)
            assert [type(answer) for answer in answers] == [StoreUnavailable] * 3
        assert await db.latest() == 1
