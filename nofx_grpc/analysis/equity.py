"""The value of an account over time: returns from cycle to cycle, and the worst fall."""

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt
from typing import Final, NamedTuple

from nofx_grpc.analysis.actions import usable

_ROUNDING: Final = 1e-12  # of a return; no exchange tells of an account so exactly


class Point(NamedTuple):
    """An account at a cycle."""

    time: int  # nanoseconds since 1970 in UTC
    balance: float  # the wallet, without the profit of open positions; 0 where the cycle could not read it
    unrealized: float  # the profit of open positions

    @property
    def equity(self) -> float:
        return self.balance + self.unrealized


def make_point(time: int, balance: float, unrealized: float) -> Point:
    """The point, with 0 for a number that no account can have."""
    return Point(time, usable(balance), usable(unrealized))


class Drawdown(NamedTuple):
    """A fall from a peak to the lowest point before the next peak."""

    peak: Point
    trough: Point

    @property
    def amount(self) -> float:
        return self.peak.equity - self.trough.equity

    @property
    def percent(self) -> float:
        """The fall in percent of the peak; more than 100 if the account ended below zero."""
        return self.amount / self.peak.equity * 100 if self.peak.equity > 0 else 0.0


class Spread(NamedTuple):
    """Mean and population standard deviation."""

    mean: float
    deviation: float

    @property
    def deviates(self) -> bool:
        """Whether the deviation is more than the rounding of equal returns leaves of it."""
        return self.deviation > _ROUNDING * (1 + abs(self.mean))


def known(points: Sequence[Point]) -> list[Point]:
    """The points whose account could be read."""
    return [point for point in points if point.balance > 0]


def spread_of_returns(values: Sequence[float]) -> Spread | None:
    """The spread of the returns from each value to the next; None if there are none."""
    returns = [(after - before) / before for before, after in pairwise(values) if before > 0]
    if not returns:
        return None
    mean = sum(returns) / len(returns)
    return Spread(mean, sqrt(sum((value - mean) ** 2 for value in returns) / len(returns)))


def max_drawdown(points: Sequence[Point]) -> Drawdown | None:
    """The largest fall in percent of its peak, the first among equals; None if equity never fell."""
    worst: Drawdown | None = None
    peak = points[0] if points else None
    for point in points:
        if peak is None or point.equity >= peak.equity:
            peak = point
        elif worst is None or Drawdown(peak, point).percent > worst.percent:
            worst = Drawdown(peak, point)
    return worst
