"""The performance of a trader over a window of its cycles: as NOFX reckons it, and as it was."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

from nofx_grpc.analysis import as_nofx
from nofx_grpc.analysis.actions import Action
from nofx_grpc.analysis.equity import Drawdown, Point, known, max_drawdown, spread_of_returns
from nofx_grpc.analysis.ledger import Ledger
from nofx_grpc.analysis.trades import Summary, Trade, summarize


class Cycle(NamedTuple):
    """What the analysis needs of a record."""

    point: Point
    actions: Sequence[Action]


class Window(NamedTuple):
    """The latest cycles of a trader."""

    cycles: Sequence[Cycle]  # in the order of their times
    before: Ledger  # what was open before the first of them
    nofx: Sequence[Cycle]  # the same number of the latest by name, in this order: NOFX's window
    nofx_longer: Sequence[Cycle]  # and its longer window up to the same end


class Reading(NamedTuple):
    """What the trades of a window came to; a ratio is None where it has no divisor."""

    trades: Sequence[Trade]  # in the order of their ends
    summary: Summary
    profit_factor: float | None
    sharpe_ratio: float | None


class Account(NamedTuple):
    """The account over a window."""

    curve: Sequence[Point]
    drawdown: Drawdown | None


def read_as_nofx(window: Sequence[Cycle], longer: Sequence[Cycle]) -> Reading:
    """NOFX's reading.  `longer` is its longer window up to the same end; both in the order of the records' names."""
    before = _actions(longer) if len(longer) > len(window) else []
    trades = as_nofx.trades_of(_actions(window), before)
    summary = summarize(trades)
    spread = spread_of_returns([point.balance for point in known([cycle.point for cycle in window])])
    sharpe = as_nofx.sharpe_ratio(spread.mean, spread.deviation) if spread else 0.0
    return Reading(trades, summary, as_nofx.profit_factor(summary.total), sharpe)


def read(window: Sequence[Cycle], ledger: Ledger) -> Reading:
    """The right reading.  `ledger` holds what was open before the window, and is taken to the window's end; the cycles
    are in the order of their times.
    """
    ledger.apply(_actions(window))
    summary = summarize(ledger.trades)
    spread = spread_of_returns([point.equity for point in known([cycle.point for cycle in window])])
    sharpe = spread.mean / spread.deviation if spread and spread.deviates else None
    return Reading(ledger.trades, summary, summary.total.profit_factor, sharpe)


def account(window: Sequence[Cycle]) -> Account:
    """The account at each cycle that could read it, and its worst fall; the cycles are in the order of their times."""
    curve = known([cycle.point for cycle in window])
    return Account(curve, max_drawdown(curve))


def _actions(cycles: Iterable[Cycle]) -> Iterable[Action]:
    return chain.from_iterable(cycle.actions for cycle in cycles)
