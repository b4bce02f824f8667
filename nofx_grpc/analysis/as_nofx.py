"""NOFX's own arithmetic, quirk for quirk, for whoever compares with it.

docs/performance-analysis.md says where it is wrong.
"""

from collections.abc import Iterable
from typing import Final

from nofx_grpc.analysis.actions import Action, Kind, Side
from nofx_grpc.analysis.trades import Tally, Trade, gain

LONGER: Final = 3  # NOFX looks for open positions in a window that is longer by this factor
_CLOSED: Final = 0.0001  # of whatever coin
_ALL_WON: Final = 999.0  # NOFX's word for a ratio without a divisor


class _Leg:
    """An opening that waits for its close."""

    def __init__(self, opening: Action, side: Side) -> None:
        self.opening = opening
        self.side = side
        self.remaining = opening.quantity
        self.pnl = 0.0

    def close(self, quantity: float, price: float) -> None:
        self.pnl += quantity * gain(self.side, self.opening.price, price)
        self.remaining -= quantity

    def trade(self, action: Action) -> Trade:
        return Trade(
            action.symbol,
            self.side,
            self.opening.quantity,
            self.opening.leverage,
            self.opening.price,
            action.price,
            self.pnl,
            self.opening.time,
            action.time,
            action.meaning.automatic,
        )


def trades_of(window: Iterable[Action], longer: Iterable[Action]) -> list[Trade]:
    """The trades of a window, in the order of their ends.

    `longer` is the longer window up to the same end, empty if there is nothing before the window.  What is open at its
    end is taken for open at the window's beginning: so what was opened before the window and closed in it is lost, and
    a close can meet a later opening.
    """
    legs = _open_at_the_end(longer)
    trades = []
    for action in window:
        kind, side, _ = action.meaning
        side = side or (Side.SHORT if _has_only_short(legs, action.symbol) else Side.LONG)
        key = action.symbol, side
        if kind is Kind.OPEN:
            legs[key] = _Leg(action, side)
        elif leg := legs.get(key):
            leg.close(leg.remaining if kind is Kind.CLOSE else action.quantity, action.price)
            if kind is Kind.CLOSE or leg.remaining <= _CLOSED:
                trades.append(leg.trade(action))
                del legs[key]
    return trades


def _open_at_the_end(actions: Iterable[Action]) -> dict[tuple[str, Side], _Leg]:
    legs: dict[tuple[str, Side], _Leg] = {}
    for action in actions:
        kind, side, _ = action.meaning
        if side is None:
            continue
        if kind is Kind.OPEN:
            legs[action.symbol, side] = _Leg(action, side)
        else:
            legs.pop((action.symbol, side), None)
    return legs


def _has_only_short(legs: dict[tuple[str, Side], _Leg], symbol: str) -> bool:
    return (symbol, Side.SHORT) in legs and (symbol, Side.LONG) not in legs


def profit_factor(total: Tally) -> float:
    """The profit factor; 999 where nothing was lost but something won, 0 where neither."""
    ratio = total.profit_factor
    if ratio is not None:
        return ratio
    return _ALL_WON if total.won > 0 else 0.0


def sharpe_ratio(mean: float, deviation: float) -> float:
    """Mean over deviation; 999, -999 or 0 by the sign of the mean where nothing varies."""
    if deviation:
        return mean / deviation
    return _ALL_WON * ((mean > 0) - (mean < 0))
