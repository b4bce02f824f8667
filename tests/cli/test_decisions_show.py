"""`nofx-grpc decisions show`: what is printed, and that an agent's words do not steer the terminal."""

from datetime import UTC, datetime
from io import StringIO

from google.protobuf.duration_pb2 import Duration
from rich.console import Console

from nofx_grpc.cli.decisions import TraderRecord
from nofx_grpc.cli.decisions_show import show
from nofx_grpc.cli.wording import amount, money, percent, period, ratio
from nofx_grpc.v1 import decision_logs_pb2, performance_pb2

AT = datetime(2025, 11, 18, 9, 30, 10, tzinfo=UTC)


def record(text: str = "BTCUSDT") -> TraderRecord:
    """A cycle that closed a position with a profit, and one that failed before it."""
    statistics = performance_pb2.DecisionStatistics(total_cycles=2, failed_cycles=1)
    performance = performance_pb2.Performance(cycles=2)
    performance.actual.total_trades, performance.actual.total_pnl, performance.actual.win_rate = 1, 20.5, 100.0
    trade = performance.actual.recent_trades.add(symbol=text, pnl=20.5)
    good = decision_logs_pb2.Decision(cycle_number=2, success=True)
    done = good.decisions.add(action="close_long", symbol=text, price=110, success=True)
    good.decisions.add(action="open_short", symbol=text, quantity=0.5, price=110, leverage=5, error=text)
    bad = decision_logs_pb2.Decision(cycle_number=1, error_message=text)
    for time in (trade.close_time, good.time, done.time, bad.time):
        time.FromDatetime(AT)
    good.account_state.total_balance, good.account_state.total_unrealized_profit = 1000, -1.5
    return TraderRecord("t-1", statistics, performance, [good, bad])


def printed(found: TraderRecord, *, colours: bool = False) -> str:
    out = StringIO()
    console = Console(file=out, width=160, force_terminal=colours, no_color=not colours, highlight=False)
    show(found, console)
    return out.getvalue()


def test_the_latest_cycles_with_their_actions_and_results() -> None:
    lines = [" ".join(line.split()) for line in printed(record()).splitlines()]
    assert lines == [
        "Trader t-1",
        "2 cycles, 1 failed",
        "Over the latest 2: +20.50 of 1 trades, win rate 100.00 %",
        "Time (UTC) Cycle Equity What was done Profit or loss",
        "2025-11-18 09:30:10 1 – failed: BTCUSDT",
        "2025-11-18 09:30:10 2 998.50 close_long BTCUSDT at 110 +20.50",
        "open_short BTCUSDT 0.5 at 110 ×5: BTCUSDT",
    ]


def test_an_action_without_a_time_has_its_cycles() -> None:
    found = record()
    found.decisions[0].decisions[0].ClearField("time")
    assert "+20.50" in printed(found).splitlines()[5]
    found.decisions[0].decisions[0].time.FromJsonString("0001-01-01T00:00:00Z")  # Go's zero time
    assert "+20.50" in printed(found).splitlines()[5]


def test_each_trade_of_a_cycle_is_there_once() -> None:
    found = record()
    other = found.performance.actual.recent_trades.add(symbol="BTCUSDT", pnl=-3)
    other.close_time.FromDatetime(AT)
    found.decisions[0].decisions.insert(0, found.decisions[0].decisions[0])
    found.decisions[0].decisions[0].action = "partial_close"
    text = printed(found).splitlines()
    assert "+20.50" in text[5] and "-3.00" in text[6] and sum("+20.50" in line for line in text[4:]) == 1


def test_profits_are_green_and_failures_red() -> None:
    colours = printed(record(), colours=True)
    assert "\x1b[32m+20.50" in colours and "\x1b[31mfailed: BTCUSDT" in colours


def test_an_agents_words_do_not_steer_the_terminal() -> None:
    hostile = "\x1b]0;title\x07\x1b[2J\u202eevil\r\x9b31m[bold red]markup[/]"
    text = printed(record(hostile))
    assert not {character for character in text if not character.isprintable()} - {"\n"}
    assert "\\x1b]0;title\\x07\\x1b[2J\\u202eevil\\r\\x9b31m[bold red]markup[/]" in text


def test_a_trader_without_records() -> None:
    nothing = TraderRecord("t\x1b[2J", performance_pb2.DecisionStatistics(), performance_pb2.Performance(), [])
    assert printed(nothing).splitlines() == ["Trader t\\x1b[2J", "0 cycles, 0 failed"]


def test_numbers_in_words() -> None:
    assert [money(value, sign=True) for value in (0, -1234.567, 1e30)] == ["+0.00", "-1,234.57", "+1e+30"]
    assert [percent(12.345), ratio(0.32463), amount(95675.7), amount(0.000012345678)] == [
        "12.35 %",
        "0.325",
        "95,675.7",
        "1.2345678e-05",
    ]
    periods = (0, 59, 3_600, 90_061, -61)
    assert [period(Duration(seconds=value)) for value in periods] == ["0s", "59s", "1h 0m", "1d 1h", "-1m 1s"]
