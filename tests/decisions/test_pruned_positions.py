"""Pruning changes no result: what was open where the log begins now is still known."""

from itertools import count

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nofx_grpc.analysis.ledger import Ledger
from nofx_grpc.store.decisions import index, logs, positions, pruning
from nofx_grpc.store.decisions.entries import BEFORE_ALL, Entry, Key
from nofx_grpc.store.decisions.pruning import Limits
from nofx_grpc.store.decisions.settling import settle_all
from nofx_grpc.store.engine import Connection, Database
from nofx_grpc.v1 import decision_logs_pb2 as pb
from tests.decisions.performance import performance
from tests.decisions.support import Logs
from tests.decisions.test_positions import LEGS, done_in, entry
from tests.support.histories import actions

START = 1_763_424_000
numbers = count()


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[list[Entry], int]]:
    """Records that come to a log at once, late ones among them, and how many are left of all by pruning then."""
    names = draw(st.permutations([f"decision_{number:02}" for number in range(draw(st.integers(1, 14)))]))
    coming = [entry(name, draw(st.integers(0, 8)), draw(actions())) for name in names]
    made = []
    while coming:
        batch, coming = coming[: (take := draw(st.integers(1, 5)))], coming[take:]
        made.append((batch, draw(st.integers(1, 8))))
    return made


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(histories(), st.integers(1, 3))
async def test_what_is_open_after_a_record_stays(
    db: Database, history: list[tuple[list[Entry], int]], at_once: int
) -> None:
    """While positions are brought in step a few at a time too."""
    trader = f"t{next(numbers)}"
    kept: list[Entry] = []
    after: list[Entry] = []
    edge, base = BEFORE_ALL, "[]"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(positions, "AT_ONCE", at_once)
        for come, left in history:
            await db.write(index.add, trader, trader, come)
            kept = sorted([*kept, *come], key=key)
            gone, kept = kept[:-left], kept[-left:]
            if gone and key(gone[-1]) > edge:
                base = open_after([one for one in gone if key(one) > edge], base)[-1]
                edge = key(gone[-1])
            assert (await db.write(pruning.prune, trader, Limits(count=left), in_files=True)).value.ids == [
                one.id for one in gone
            ]
            after = [one for one in kept if key(one) > edge]
            found = (await db.scan(open_before, trader, [*map(key, after[1:]), Key(9, "")])).value
            assert not after or found == open_after(after, base)
        await settle_all(db, trader)
    expected = {one.id: legs for one, legs in zip(after, open_after(after, base), strict=True) if one.trades}
    assert (await db.scan(legs_of, trader, list(expected))).value == expected


def key(one: Entry) -> Key:
    return Key(one.time_ns, one.id)


def open_after(records: list[Entry], base: str) -> list[str]:
    """What is open after each record."""
    ledger, found = Ledger.load(base), []
    for one in records:
        ledger.apply(done_in(one))
        found.append(ledger.dump())
    return found


def open_before(connection: Connection, trader: str, places: list[Key]) -> list[str]:
    log = logs.find(connection, trader).log
    assert log is not None
    return [positions.open_before(connection, log.id, place).dump() for place in places]


def legs_of(connection: Connection, trader: str, ids: list[str]) -> dict[str, str]:
    log = logs.find(connection, trader).log
    assert log is not None
    return {id: connection.exec_driver_sql(LEGS.format(log.id, id)).scalar_one() for id in ids}


async def trade(logs: Logs, minute: int, action: str = "", price: float = 0) -> None:
    at = Timestamp(seconds=START + minute * 60)
    done = [pb.ExecutedAction(action=action, symbol="BTC", quantity=5, price=price, success=True)] if action else []
    await logs.append(time=at, decisions=done, account_state=pb.AccountSnapshot(total_balance=1000))


async def test_a_window_has_the_same_trades_after_pruning(logs: Logs) -> None:
    await trade(logs, 0, "open_long", 100)
    for minute in range(1, 5):
        await trade(logs, minute)
    await trade(logs, 5, "close_long", 110)
    before = await performance(logs, lookback_cycles=3)
    assert [made.pnl for made in before.actual.recent_trades] == [50]
    await logs.prune(keep_count=4)
    assert await performance(logs, lookback_cycles=3) == before
    await logs.prune(keep_count=1)
    after = await performance(logs, lookback_cycles=3)
    assert after.actual.recent_trades == before.actual.recent_trades and after.unmatched_closes == 0


async def test_nothing_is_open_for_who_comes_next(logs: Logs) -> None:
    await trade(logs, 0, "open_long", 100)
    await trade(logs, 1)
    await logs.prune(keep_count=1)
    await logs.service.execute("DELETE FROM traders WHERE id = 't'")
    await logs.prune(everything=True)
    await logs.add_trader("t", "alice")
    await trade(logs, 2, "close_long", 110)
    found = await performance(logs)
    assert not found.actual.recent_trades and found.unmatched_closes == 1
