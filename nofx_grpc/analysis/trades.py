"""Trades, from the opening of a position to its close, and what many of them come to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from nofx_grpc.analysis.actions import Side


class Trade(NamedTuple):
    """A position that was opened and closed."""

    symbol: str
    side: Side
    quantity: float  # what was opened
    leverage: int
    open_price: float
    close_price: float
    pnl: float
    open_time: int
    close_time: int
    automatic: bool

    @property
    def position_value(self) -> float:
        return self.quantity * self.open_price

    @property
    def margin_used(self) -> float:
        """The margin of the position; 0 where the leverage is not known."""
        return self.position_value / self.leverage if self.leverage else 0.0

    @property
    def pnl_percent(self) -> float:
        """The profit or loss in percent of the margin; 0 where there is no margin."""
        return self.pnl / self.margin_used * 100 if self.margin_used > 0 else 0.0

    @property
    def duration(self) -> int:
        return self.close_time - self.open_time


@dataclass(slots=True)
class Tally:
    """Trades counted and summed: those of a symbol, or all of them.  Without profit or loss a trade is neither."""

    trades: int = 0
    winning: int = 0
    losing: int = 0
    won: float = 0.0
    lost: float = 0.0  # negative
    pnl: float = 0.0

    def add(self, pnl: float) -> None:
        self.trades += 1
        self.pnl += pnl
        if pnl > 0:
            self.winning += 1
            self.won += pnl
        elif pnl < 0:
            self.losing += 1
            self.lost += pnl

    @property
    def win_rate(self) -> float:
        return self.winning / self.trades * 100 if self.trades else 0.0

    @property
    def average(self) -> float:
        return self.pnl / self.trades if self.trades else 0.0

    @property
    def average_win(self) -> float:
        return self.won / self.winning if self.winning else 0.0

    @property
    def average_loss(self) -> float:
        return self.lost / self.losing if self.losing else 0.0

    @property
    def profit_factor(self) -> float | None:
        """What was won for each unit lost; None where nothing was lost."""
        return self.won / -self.lost if self.lost else None


@dataclass(slots=True)
class Summary:
    """What trades came to, all together and by symbol."""

    total: Tally = field(default_factory=Tally)
    symbols: dict[str, Tally] = field(default_factory=dict)

    @property
    def best_symbol(self) -> str:
        """The symbol with the largest profit, the first by name among equals; '' without trades."""
        return min(self.symbols, key=lambda symbol: (-self.symbols[symbol].pnl, symbol), default="")

    @property
    def worst_symbol(self) -> str:
        """The symbol with the smallest profit, the first by name among equals; '' without trades."""
        return min(self.symbols, key=lambda symbol: (self.symbols[symbol].pnl, symbol), default="")


def summarize(trades: Iterable[Trade]) -> Summary:
    """Count and sum the trades."""
    summary = Summary()
    for trade in trades:
        summary.total.add(trade.pnl)
        summary.symbols.setdefault(trade.symbol, Tally()).add(trade.pnl)
    return summary


def newest_first(trades: Sequence[Trade], limit: int) -> list[Trade]:
    """At most `limit` of the trades, the last one first."""
    return list(reversed(trades))[:limit]


def gain(side: Side, open_price: float, price: float) -> float:
    """What one unit of a position has won at this price."""
    return price - open_price if side is Side.LONG else open_price - price
