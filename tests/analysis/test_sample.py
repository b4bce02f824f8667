"""NOFX's reading of the sample's decision logs is the one that its program gave."""

from typing import Any

import pytest

from nofx_grpc.analysis.ledger import Ledger
from nofx_grpc.analysis.performance import Reading, account, read, read_as_nofx
from nofx_grpc.analysis.trades import Tally, Trade, newest_first
from tests.support.sample_logs import EXPECTED, cycles, differences, go_duration, nanoseconds

TRADERS = sorted(EXPECTED)


@pytest.fixture(params=TRADERS)
def trader(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def shown(trade: Trade) -> dict[str, Any]:
    """A trade as the program shows it."""
    return {
        "symbol": trade.symbol,
        "side": trade.side,
        "quantity": trade.quantity,
        "leverage": trade.leverage,
        "open_price": trade.open_price,
        "close_price": trade.close_price,
        "position_value": trade.position_value,
        "margin_used": trade.margin_used,
        "pn_l": trade.pnl,
        "pn_l_pct": trade.pnl_percent,
        "duration": trade.duration,
        "open_time": trade.open_time,
        "close_time": trade.close_time,
        "was_stop_loss": trade.automatic,
    }


def expected_trade(trade: dict[str, Any]) -> dict[str, Any]:
    times = {"open_time": nanoseconds(trade["open_time"]), "close_time": nanoseconds(trade["close_time"])}
    return trade | times | {"duration": go_duration(str(trade["duration"]))}


def shown_symbol(symbol: str, tally: Tally) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "total_trades": tally.trades,
        "winning_trades": tally.winning,
        "losing_trades": tally.losing,
        "win_rate": tally.win_rate,
        "total_pn_l": tally.pnl,
        "avg_pn_l": tally.average,
    }


def shown_reading(reading: Reading) -> dict[str, Any]:
    """A reading as the program shows it."""
    total = reading.summary.total
    return {
        "total_trades": total.trades,
        "winning_trades": total.winning,
        "losing_trades": total.losing,
        "win_rate": total.win_rate,
        "avg_win": total.average_win,
        "avg_loss": total.average_loss,
        "profit_factor": reading.profit_factor,
        "sharpe_ratio": reading.sharpe_ratio,
        "recent_trades": [shown(trade) for trade in newest_first(reading.trades, 10)],
        "symbol_stats": {symbol: shown_symbol(symbol, tally) for symbol, tally in reading.summary.symbols.items()},
        "best_symbol": reading.summary.best_symbol,
        "worst_symbol": reading.summary.worst_symbol,
    }


def test_nofx_reading_of_the_sample(trader: str) -> None:
    records = cycles(trader)
    expected = EXPECTED[trader]["performance_lookback_100"]
    trades = {"recent_trades": [expected_trade(trade) for trade in expected["recent_trades"]]}
    assert differences(shown_reading(read_as_nofx(records[-100:], records[-300:])), expected | trades) == []


def test_right_reading_of_the_sample_finds_the_same_trades(trader: str) -> None:
    """Neither trader has a position from before the window, a re-entry or a small remainder."""
    records = cycles(trader)
    ours, theirs = read(records, Ledger()), read_as_nofx(records, records)
    assert len(theirs.trades) >= 7
    # Where a position was closed in parts, the right reading shows the average of its closing prices.
    left, right = ([shown(trade._replace(close_price=0.0)) for trade in reading.trades] for reading in (ours, theirs))
    assert differences(left, right) == []
    # The wallet moves when a position closes; equity moves all the time.
    assert ours.sharpe_ratio is not None and ours.sharpe_ratio != pytest.approx(theirs.sharpe_ratio, rel=0.01)


def test_equity_of_the_sample(trader: str) -> None:
    records = cycles(trader)
    curve, drawdown = account(records)
    unread = [cycle for cycle in records if cycle.point.balance == 0]
    assert len(curve) == len(records) - len(unread) and unread
    assert drawdown is not None
    assert drawdown.peak.time < drawdown.trough.time
    assert 0 < drawdown.percent == pytest.approx((1 - drawdown.trough.equity / drawdown.peak.equity) * 100)
