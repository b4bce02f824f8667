"""GetDecisionStatistics and AnalyzePerformance, over both homes of the records and on both engines."""

from math import isfinite
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from nofx_grpc.v1 import decision_logs_pb2 as logs_pb
from nofx_grpc.v1 import performance_pb2 as pb
from tests.decisions.performance import performance, statistics
from tests.decisions.support import Logs, record
from tests.support.service import refused

MINUTE = 60
START = 1_763_424_000


async def trade(logs: Logs, minute: int, *actions: str, balance: float = 1000.0, profit: float = 0.0) -> None:
    """Append a cycle with actions such as 'open_long BTC 2@100'."""
    at = Timestamp(seconds=START + minute * MINUTE)
    done = []
    for text in actions:
        word, symbol, amount = text.split()
        quantity, _, price = amount.partition("@")
        made = logs_pb.ExecutedAction(action=word, symbol=symbol, leverage=5, success=True, time=at)
        made.quantity, made.price = float(quantity), float(price)
        done.append(made)
    account = logs_pb.AccountSnapshot(total_balance=balance, total_unrealized_profit=profit)
    await logs.append(time=at, decisions=done, account_state=account)


async def test_a_window_goes_on_from_what_was_open_before_it(logs: Logs) -> None:
    await trade(logs, 0, "open_long BTC 2@100", "open_short ETH 1@50")
    await trade(logs, 1, "partial_close BTC 1@200")
    await trade(logs, 2)
    await trade(logs, 3, "close_long BTC 0@110")
    found = await performance(logs, lookback_cycles=2)
    [only] = found.actual.recent_trades
    assert (only.symbol, only.pnl, only.close_price, only.duration.seconds) == ("BTC", 110, 155, 3 * MINUTE)
    assert (only.position_value, only.margin_used, only.pnl_percent) == (200, 40, 275)
    [left] = found.open_positions
    assert (left.symbol, left.side, left.remaining) == ("ETH", pb.POSITION_SIDE_SHORT, 1)
    assert found.nofx.total_trades == 0
    assert (found.cycles, found.first_time.seconds, found.last_time.seconds) == (
        *(2, START + 2 * MINUTE),
        START + 3 * MINUTE,
    )


@pytest.mark.parametrize(("cycles_between", "trades"), [(2, 1), (3, 0)])
async def test_nofx_looks_back_over_three_windows(files: Logs, cycles_between: int, trades: int) -> None:
    await trade(files, 0, "open_long BTC 2@100")
    for minute in range(cycles_between - 1):
        await trade(files, 1 + minute)
    await trade(files, 9, "partial_close BTC 2@110")
    assert (await performance(files, lookback_cycles=1)).nofx.total_trades == trades


async def test_a_record_that_comes_late_is_put_where_it_belongs(logs: Logs) -> None:
    await trade(logs, 5, "close_long BTC 0@110")
    before = await performance(logs, lookback_cycles=1)
    assert (before.actual.total_trades, before.unmatched_closes) == (0, 1)
    await trade(logs, 0, "open_long BTC 2@100")
    after = await performance(logs, lookback_cycles=1)
    assert ([found.pnl for found in after.actual.recent_trades], after.unmatched_closes) == ([20], 0)


async def test_what_is_pruned_is_not_counted_and_what_it_opened_is_known(logs: Logs) -> None:
    await trade(logs, 0, "open_long BTC 2@100")
    await trade(logs, 1, "partial_close BTC 1@200")
    await trade(logs, 2, "close_long BTC 0@110")
    assert (await statistics(logs)).total_open_positions == 1
    await logs.prune(keep_count=1)
    found, counted = await performance(logs), await statistics(logs)
    assert ([made.pnl for made in found.actual.recent_trades], found.cycles, found.unmatched_closes) == ([110], 1, 0)
    assert (counted.total_cycles, counted.total_open_positions, counted.total_close_positions) == (1, 0, 1)
    assert (counted.total_partial_closes, counted.first_time) == (0, counted.last_time)


async def test_equity_is_the_wallet_with_what_is_not_taken_yet(logs: Logs) -> None:
    for minute, (balance, profit) in enumerate([(1000, 0), (1000, 200), (0, 0), (1000, -300), (800, 0)]):
        await trade(logs, minute, balance=balance, profit=profit)
    found = await performance(logs)
    assert [point.equity for point in found.equity_curve] == [1000, 1200, 700, 800]
    assert found.max_drawdown.amount == 500 and found.max_drawdown.percent == pytest.approx(500 / 12)
    assert found.max_drawdown.peak.time.seconds == START + MINUTE
    assert (found.max_drawdown.trough.equity, found.max_drawdown.trough.balance) == (700, 1000)


async def test_ratios_without_a_divisor_are_absent(logs: Logs) -> None:
    await trade(logs, 0, "open_long BTC 2@100", balance=1000)
    await trade(logs, 1, "close_long BTC 0@110", balance=1100)
    found = await performance(logs)
    assert not found.actual.HasField("profit_factor") and not found.actual.HasField("sharpe_ratio")
    assert (found.nofx.profit_factor, found.nofx.sharpe_ratio) == (999, 999)


async def test_so_many_trades_are_named(logs: Logs) -> None:
    for minute in range(12):
        await trade(logs, minute, "open_long BTC 1@100", f"close_long BTC 0@{101 + minute}")
    newest_first = [float(12 - number) for number in range(12)]
    for limit, expected in ((0, 10), (3, 3), (1000, 12)):
        found = await performance(logs, trade_limit=limit)
        assert [each.pnl for each in found.actual.recent_trades] == newest_first[:expected]
        assert len(found.nofx.recent_trades) == expected and found.actual.total_trades == 12


async def test_a_trader_without_records_has_done_nothing(logs: Logs) -> None:
    assert (await statistics(logs), await performance(logs)) == (pb.DecisionStatistics(), pb.Performance())


async def test_no_number_is_infinite_or_none(logs: Logs) -> None:
    words = ("open_long", "partial_close", "close_long", "open_short", "auto_close_short")
    for minute, number in enumerate([1e308, 5e-324, -1e308, 0.0, 1e30, 1e-30, 1e15, -0.0]):
        done = [f"{word} BTC {number}@{other}" for word in words for other in (1e308, 1e-30, 1e30, 7)]
        await trade(logs, minute, *done, balance=number, profit=-number)
    found = await performance(logs, trade_limit=1000)
    assert found.actual.total_trades > 0 and found.unusable_actions > 0
    assert [number for number in numbers_in(found) if not isfinite(number)] == []


def numbers_in(message: Message) -> list[float]:
    """Every double of a message, at any depth."""
    found: list[float] = []
    for field, value in message.ListFields():
        values = value if field.is_repeated else [value]
        if field.type == FieldDescriptor.TYPE_DOUBLE:
            found += values
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            found += [number for each in values for number in numbers_in(each)]
    return found


async def test_files_that_are_no_records_are_counted_apart(files: Logs) -> None:
    files.put("decision_20251118_100000_cycle1.json", record())
    files.put("decision_20251118_100300_cycle2.json", b'{"timestamp": "2025-11-18T10:03:00Z", "cyc')
    files.put("decision_20251118_100600_cycle3.json", b"")
    found = await statistics(files)
    assert (found.total_cycles, found.successful_cycles, found.failed_cycles, found.unreadable_files) == (1, 1, 0, 2)


# ---- who may, and what may be asked


@pytest.mark.parametrize("role", ["gateway", "engine", "viewer"])
async def test_every_role_may_read(files: Logs, role: str) -> None:
    assert await performance(files, client=files.service.client(role)) == pb.Performance()


async def test_a_token_of_one_user_reads_that_users_traders_only(files: Logs) -> None:
    scoped = files.service.client(token=await files.service.make_token("viewer", "alice"))
    assert await performance(files, client=scoped) == pb.Performance()
    stub = scoped.decision_logs
    for user_id, trader_id, code, reason in (
        ("bob", "b", grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
        ("alice", "b", grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
        ("", "b", grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"),
    ):
        analysis = pb.AnalyzePerformanceRequest(user_id=user_id, trader_id=trader_id)
        await refused(stub.AnalyzePerformance(analysis), code, reason)
        counts = pb.GetDecisionStatisticsRequest(user_id=user_id, trader_id=trader_id)
        await refused(stub.GetDecisionStatistics(counts), code, reason)


async def test_a_trader_is_found_by_its_id_alone(logs: Logs) -> None:
    await trade(logs, 0)
    assert (await performance(logs, user_id="")).cycles == (await statistics(logs, user_id="")).total_cycles == 1


@pytest.mark.parametrize("user_id", ["alice", ""])
async def test_an_unknown_trader_is_not_found(logs: Logs, user_id: str) -> None:
    for call in (performance(logs, "nobody", user_id), statistics(logs, "nobody", user_id)):
        refusal = await refused(call, grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
        assert "nobody" in refusal.text


@pytest.mark.parametrize(
    ("field", "value"),
    [("lookback_cycles", -1), ("lookback_cycles", 10_001), ("trade_limit", -1), ("trade_limit", 1001)],
)
async def test_a_window_has_its_limits(files: Logs, field: str, value: int) -> None:
    fields: dict[str, Any] = {field: value}
    refusal = await refused(performance(files, **fields), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert list(refusal.violations) == [field]
