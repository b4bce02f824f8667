"""The messages of a trader's performance."""

from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from nofx_grpc.analysis.actions import Side
from nofx_grpc.analysis.equity import Drawdown, Point
from nofx_grpc.analysis.ledger import Position
from nofx_grpc.analysis.performance import Reading, Window, account, read, read_as_nofx
from nofx_grpc.analysis.trades import Tally, Trade, newest_first
from nofx_grpc.v1 import performance_pb2 as pb

_SECOND: Final = 10**9
_SIDES: Final = {Side.LONG: pb.POSITION_SIDE_LONG, Side.SHORT: pb.POSITION_SIDE_SHORT}


def performance_to_proto(window: Window, trade_limit: int) -> pb.Performance:
    """The performance over a window, with so many trades in each reading.  Its ledger is taken to the window's end."""
    ledger, points = window.before, [cycle.point for cycle in window.cycles]
    actual = read(window.cycles, ledger)
    seen = account(window.cycles)
    return pb.Performance(
        cycles=len(points),
        first_time=timestamp(points[0].time) if points else None,
        last_time=timestamp(points[-1].time) if points else None,
        actual=_reading(actual, trade_limit),
        nofx=_reading(read_as_nofx(window.nofx, window.nofx_longer), trade_limit),
        equity_curve=[_point(point) for point in seen.curve],
        max_drawdown=_drawdown(seen.drawdown) if seen.drawdown else None,
        open_positions=[_position(position) for position in ledger.positions.values()],
        unmatched_closes=ledger.unmatched,
        replaced_positions=ledger.replaced,
        unusable_actions=ledger.unusable,
    )


def timestamp(nanoseconds: int) -> Timestamp:
    """Nanoseconds since 1970 as a Timestamp."""
    return Timestamp(seconds=nanoseconds // _SECOND, nanos=nanoseconds % _SECOND)


def _reading(reading: Reading, trade_limit: int) -> pb.PerformanceReading:
    summary, total = reading.summary, reading.summary.total
    return pb.PerformanceReading(
        total_trades=total.trades,
        winning_trades=total.winning,
        losing_trades=total.losing,
        win_rate=total.win_rate,
        total_pnl=total.pnl,
        average_win=total.average_win,
        average_loss=total.average_loss,
        profit_factor=reading.profit_factor,
        sharpe_ratio=reading.sharpe_ratio,
        recent_trades=[_trade(trade) for trade in newest_first(reading.trades, trade_limit)],
        symbols=[_symbol(symbol, summary.symbols[symbol]) for symbol in sorted(summary.symbols)],
        best_symbol=summary.best_symbol,
        worst_symbol=summary.worst_symbol,
    )


def _trade(trade: Trade) -> pb.Trade:
    return pb.Trade(
        symbol=trade.symbol,
        side=_SIDES[trade.side],
        quantity=trade.quantity,
        leverage=trade.leverage,
        open_price=trade.open_price,
        close_price=trade.close_price,
        position_value=trade.position_value,
        margin_used=trade.margin_used,
        pnl=trade.pnl,
        pnl_percent=trade.pnl_percent,
        duration=_duration(trade.duration),
        open_time=timestamp(trade.open_time),
        close_time=timestamp(trade.close_time),
        closed_by_exchange=trade.automatic,
    )


def _symbol(symbol: str, tally: Tally) -> pb.SymbolPerformance:
    return pb.SymbolPerformance(
        symbol=symbol,
        total_trades=tally.trades,
        winning_trades=tally.winning,
        losing_trades=tally.losing,
        win_rate=tally.win_rate,
        total_pnl=tally.pnl,
        average_pnl=tally.average,
        total_won=tally.won,
        total_lost=tally.lost,
    )


def _position(position: Position) -> pb.OpenPosition:
    return pb.OpenPosition(
        symbol=position.symbol,
        side=_SIDES[position.side],
        quantity=position.quantity,
        remaining=position.remaining,
        open_price=position.price,
        leverage=position.leverage,
        realized_pnl=position.realized,
        open_time=timestamp(position.opened),
    )


def _point(point: Point) -> pb.EquityPoint:
    return pb.EquityPoint(time=timestamp(point.time), equity=point.equity, balance=point.balance)


def _drawdown(drawdown: Drawdown) -> pb.Drawdown:
    return pb.Drawdown(
        peak=_point(drawdown.peak),
        trough=_point(drawdown.trough),
        amount=drawdown.amount,
        percent=drawdown.percent,
    )


def _duration(nanoseconds: int) -> Duration:
    """Seconds and nanos have the same sign, as the message wants it."""
    made = Duration()
    made.FromNanoseconds(nanoseconds)
    return made
