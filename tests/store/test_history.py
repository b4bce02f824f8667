"""A promotion is noticed by whoever writes next, on whichever connection: a pooler keeps that over a failover.

What is done to a real cluster: tests/reliability.  Here a promotion is a timeline that is another all of a sudden.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from nofx_grpc.errors import StoreUnavailable
from nofx_grpc.store import audit, postgresql, revisions
from nofx_grpc.store.audit import AuditRecord
from nofx_grpc.store.engine import Database
from tests.security.support import chains
from tests.store.support import Store, Watched, postgresql_store
from tests.store.test_writer import create, user_ids
from tests.support.clock import FakeClock

RECORD = AuditRecord("token:t", "engine", "/nofx_grpc.v1.Traders/GetTraderConfig", "unix:")
# As PostgreSQL refuses to a standby, which is asked for the place where a primary writes.
IN_RECOVERY = "DO $$ BEGIN RAISE 'recovery is in progress' USING ERRCODE = '55000'; END $$"


@pytest.fixture
def store(clock: FakeClock) -> Iterator[Store]:
    with postgresql_store(clock) as made:
        yield made


def promote(*backends: Any) -> None:
    """What these write to has another timeline from now on."""
    for backend in backends:
        backend.position = backend.position.replace(postgresql._TIMELINE, "'1/00000002'")


async def history(database: Database) -> str:
    return (await database.read(revisions.read_state)).value.history_id


@pytest.mark.parametrize("way", ["write", "append"])
async def test_a_promotion_under_a_connection_that_stays(
    store: Store, watched: Watched, database: Database, way: str
) -> None:
    await database.write(create("a"))
    before, at_commit = await history(database), list[str]()

    def look() -> None:
        with store.outside() as connection:
            at_commit.append(revisions.read_state(connection).history_id)

    promote(watched.backend)
    watched.before["COMMIT"] = look
    if way == "write":
        assert (await database.write(create("b"))).revision == 3
    else:
        await database.append(audit.append, RECORD)
    assert at_commit == [before, await history(database)], "it begins before anything is committed in it"
    assert before not in at_commit[1:] and len(watched.connections) == 1
    assert await database.latest() == (3 if way == "write" else 2) and database.history_id == at_commit[1]


async def test_the_audit_chain_is_begun_anew(watched: Watched, database: Database) -> None:
    """Its last records may be among what is lost."""
    await database.append(audit.append, RECORD)
    promote(watched.backend)
    for _ in range(2):
        await database.append(audit.append, RECORD)
    assert sorted((await database.scan(chains)).value.values()) == [[1], [1, 2]]


async def test_of_two_processes_that_notice_one_begins_the_history(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    backends = store.connect(), store.connect()
    async with store.open(backends[0]) as one, store.open(backends[1]) as two:
        for each in (one, two):
            await each.append(audit.append, RECORD)
        promote(*backends)
        await asyncio.gather(*(each.write(create(name)) for each, name in ((one, "a"), (two, "b"))))
        for each in (one, two):
            await each.append(audit.append, RECORD)
        assert len((await one.scan(chains)).value) == 4, "and each goes on in a chain of its own"
    assert capsys.readouterr().out.count("history_begun") == 1


class Recovering(Watched):
    """A database that is still a standby when it is asked for the next `refusals` times."""

    refusals = 0

    @property
    def position(self) -> str:
        if self.refusals == 0:
            return str(self.backend.position)
        self.refusals -= 1
        return IN_RECOVERY


@pytest.fixture
def watched(store: Store) -> Recovering:
    return Recovering(store.connect())


async def test_a_promotion_is_waited_for_and_each_try_looks_for_the_primary(
    watched: Recovering, database: Database
) -> None:
    watched.refusals = 4
    assert (await database.write(create("a"))).revision == 2
    assert len(watched.connections) == 5, "the one of before, and one for each refusal"


async def test_a_standby_that_stays_one_is_told(watched: Recovering, database: Database) -> None:
    watched.refusals = 99
    with pytest.raises(StoreUnavailable, match="the database is read-only"):
        await database.write(create("a"))
    assert await user_ids(database) == ["default"]


async def test_who_may_not_ask_for_the_timeline_is_told_once_and_writes(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(postgresql, "_CONTROL", "unknown_function()")
    backend = store.connect()
    for name in ("a", "b"):
        async with store.open(backend) as database:
            before = await history(database)
            assert (await database.write(create(name))).value == name
            assert await history(database) == before
    assert capsys.readouterr().out.count("timeline_unknown") == 1
