"""The index gives a window as if all of the log had been replayed, in whatever order records came and went."""

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nofx_grpc.analysis.actions import Action, dump_actions, load_actions, make_action
from nofx_grpc.analysis.ledger import Ledger
from nofx_grpc.analysis.performance import read, read_as_nofx
from nofx_grpc.analysis.trades import Trade
from nofx_grpc.store.decisions import entries, index, logs, positions, windows
from nofx_grpc.store.decisions.entries import AFTER_ALL, Entry, Span
from nofx_grpc.store.decisions.settling import settle_all
from nofx_grpc.store.engine import Connection, Database
from tests.store.support import make_sqlite
from tests.support.clock import FakeClock
from tests.support.histories import Plain, actions, agree, nofx_trades, right_trades

numbers = count()


class Change(NamedTuple):
    """Records that come to a log at once, and then others that go."""

    come: Sequence[Entry]
    go: Sequence[str]


@st.composite
def changes(draw: st.DrawFn) -> list[Change]:
    """Records with names in another order than their times, of which some are equal; they come in any order."""
    size = draw(st.integers(1, 14))
    names = draw(st.permutations([f"decision_{number:02}" for number in range(size)]))
    coming = [entry(name, draw(st.integers(0, 8)), draw(actions())) for name in names]
    made = []
    while coming:
        batch, coming = coming[: (take := draw(st.integers(1, 5)))], coming[take:]
        go = draw(st.lists(st.sampled_from(names), max_size=3, unique=True))
        made.append(Change(batch, go))
    return made


def entry(name: str, time: int, done: Sequence[Action]) -> Entry:
    return Entry(
        id=name,
        time_ns=time,
        cycle_number=1,
        success=True,
        size_bytes=1,
        mtime_ns=0,
        total_balance=1000.0 + time,
        unrealized_profit=0.0,
        trades=dump_actions(done) if done else None,
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(changes(), st.integers(1, 15))
async def test_a_window_is_read_as_if_all_was_replayed(db: Database, history: list[Change], lookback: int) -> None:
    trader = f"t{next(numbers)}"
    kept: dict[str, Entry] = {}
    for change in history:
        await db.write(index.add, trader, trader, change.come)
        kept |= {one.id: one for one in change.come}
        log = (await db.read(logs.find, trader)).value.log
        assert log is not None
        await db.write(index.remove, log.id, change.go)
        kept = {id: one for id, one in kept.items() if id not in change.go}
    await db.scan(check, trader, kept, lookback)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(changes(), st.integers(1, 15))
async def test_a_window_is_right_while_positions_are_brought_in_step(
    db: Database, history: list[Change], lookback: int
) -> None:
    """With two records at a time, so that most changes are not settled at once."""
    trader = f"t{next(numbers)}"
    kept: dict[str, Entry] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(positions, "AT_ONCE", 2)
        for change in history:
            await db.write(index.add, trader, trader, change.come)
            kept |= {one.id: one for one in change.come}
            await db.scan(check, trader, kept, lookback, settled=False)
            log = (await db.read(logs.find, trader)).value.log
            assert log is not None
            await db.write(index.remove, log.id, change.go)
            kept = {id: one for id, one in kept.items() if id not in change.go}
            await db.scan(check, trader, kept, lookback, settled=False)
            await db.write(positions.go_on, trader)  # a part, as housekeeping might be cut off in the middle
        await settle_all(db, trader)
    await db.scan(check, trader, kept, lookback)


async def test_a_late_record_changes_so_many_others_in_one_write(db: Database) -> None:
    """A position that is never closed is in all that comes after it."""
    await db.write(index.add, "t", "t", [busy(number) for number in range(1, 1_500)])
    await settle_all(db, "t")
    before = (await db.scan(legs_of_all)).value
    await db.write(index.add, "t", "t", [busy(0)])
    at_once = (await db.scan(legs_of_all)).value
    assert 0 < sum(now != was for now, was in zip(at_once[1:], before, strict=True)) <= positions.AT_ONCE
    log = (await db.read(logs.find, "t")).value.log
    assert log is not None
    assert len((await db.scan(windows.latest, log.id, 20)).value.before.positions) == 1, "the late one is not there yet"
    await settle_all(db, "t")
    after = (await db.scan(legs_of_all)).value
    assert all('"short"' in legs for legs in after) and not (await db.read(positions.is_unsettled, "t")).value


async def test_what_is_left_to_bring_in_step_is_not_forgotten(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that changes nothing comes before those: that the next one is right says nothing of them."""
    await db.write(index.add, "t", "t", [busy(number) for number in range(1, 9)])
    monkeypatch.setattr(positions, "AT_ONCE", 2)
    await db.write(index.add, "t", "t", [busy(0)])
    await db.write(index.add, "t", "t", [busy(1)._replace(id="decision_00000x", time_ns=0)])
    await settle_all(db, "t")
    assert all('"short"' in legs for legs in (await db.scan(legs_of_all)).value)


def legs_of_all(connection: Connection) -> list[str]:
    return list(connection.exec_driver_sql("SELECT legs FROM decisions ORDER BY id").scalars())


def check(connection: Connection, trader: str, kept: dict[str, Entry], lookback: int, *, settled: bool = True) -> None:
    """The index agrees with a replay of the records that there are."""
    log = logs.find(connection, trader).log
    assert log is not None and log.total_cycles == len(kept)
    by_time = sorted(kept.values(), key=lambda one: (one.time_ns, one.id))
    by_name = [kept[id] for id in sorted(kept)]
    window = windows.latest(connection, log.id, lookback)
    assert [cycle.point.time for cycle in window.cycles] == [one.time_ns for one in by_time[-lookback:]]

    done = [done_in(one) for one in by_time]
    start = sum(len(one) for one in done[:-lookback])
    agreeing(read(window.cycles, window.before).trades, right_trades([each for one in done for each in one], start))
    theirs = read_as_nofx(window.nofx, window.nofx_longer).trades
    agreeing(theirs, nofx_trades([done_in(one) for one in by_name], lookback))

    ledger = Ledger()
    for one, actions_of in zip(by_time, done, strict=True):
        ledger.apply(actions_of)
        expected = ledger.dump() if one.trades is not None else None
        if settled:
            assert connection.exec_driver_sql(LEGS.format(log.id, one.id)).scalar_one() == expected
    assert ledger.dump() == window.before.dump(), "reading a window has taken its ledger to the end"
    assert [one.id for one in entries.newest(connection, log.id, Span(), AFTER_ALL, 99)] == [
        one.id for one in reversed(by_time)
    ]


LEGS = "SELECT legs FROM decisions WHERE log_id = {} AND id = '{}'"


def done_in(one: Entry) -> list[Action]:
    return load_actions(one.trades) if one.trades else []


def agreeing(found: Sequence[Trade], plain: Sequence[Plain]) -> None:
    assert len(found) == len(plain)
    assert [pair for pair in zip(found, plain, strict=True) if not agree(*pair)] == []


async def test_the_cost_of_a_window_does_not_grow_with_the_log(tmp_path: Path, clock: FakeClock) -> None:
    """Counted in steps of SQLite's machine, which does not depend on how busy this one is."""
    steps = {}
    async with make_sqlite(tmp_path, clock).open() as db:
        for size in (200, 4_000):
            await db.write(index.add, f"t{size}", f"t{size}", [busy(number) for number in range(size)])
            await settle_all(db, f"t{size}")
            steps[size] = (await db.scan(steps_of_a_window, f"t{size}")).value
    assert 0 < steps[4_000] < steps[200] * 1.2


def busy(number: int) -> Entry:
    """A record of a log that opens and closes positions all the time, and one that it never closes."""
    words = ["open_long", "close_long"] if number else ["open_short"]
    done = [made for word in words if (made := make_action(word, "BTCUSDT", 1.0, 100.0, 5, number))]
    return entry(f"decision_{number:05}", number, done)


def steps_of_a_window(connection: Connection, trader: str) -> int:
    log = logs.find(connection, trader).log
    driver = connection.connection.dbapi_connection
    assert log is not None and driver is not None
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    driver.set_progress_handler(step, 1)
    try:
        assert len(windows.latest(connection, log.id, 20).before.positions) == 1
    finally:
        driver.set_progress_handler(None, 0)
    return count
