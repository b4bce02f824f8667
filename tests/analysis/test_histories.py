"""On made-up histories the analysis of a window agrees with a plain, exact recomputation of everything."""

from collections.abc import Sequence
from fractions import Fraction
from math import isfinite

from hypothesis import given
from hypothesis import strategies as st

from nofx_grpc.analysis.actions import dump_actions, load_actions
from nofx_grpc.analysis.ledger import Ledger
from nofx_grpc.analysis.performance import Cycle, Reading, account, read, read_as_nofx
from nofx_grpc.analysis.trades import Trade
from tests.support.histories import Plain, agree, flat, histories, nofx_trades, right_trades

STARTS = st.integers(0, 25)


def read_on(history: Sequence[Cycle], start: int) -> tuple[Reading, Ledger]:
    """The right reading of what comes after `start`, gone on from the state that was kept there."""
    before = Ledger()
    before.apply(flat(history[:start]))
    ledger = Ledger.load(before.dump())
    kept = [cycle._replace(actions=load_actions(dump_actions(cycle.actions))) for cycle in history[start:]]
    return read(kept, ledger), ledger


def differing(trades: Sequence[Trade], plain: Sequence[Plain]) -> list[tuple[Trade, Plain]]:
    """The trades that differ in anything; in their profit, by more than rounding explains."""
    return [(trade, other) for trade, other in zip(trades, plain, strict=True) if not agree(trade, other)]


@given(histories(), STARTS)
def test_right_reading_of_a_window_is_that_of_the_whole_history(history: list[Cycle], start: int) -> None:
    reading, _ = read_on(history, start)
    plain = right_trades(flat(history), len(flat(history[:start])))
    assert differing(reading.trades, plain) == []
    check_sums(reading, plain)


@given(histories(), st.integers(1, 10))
def test_nofx_reading_follows_its_formulas(history: list[Cycle], lookback: int) -> None:
    reading = read_as_nofx(history[-lookback:], history[-3 * lookback :])
    plain = nofx_trades([cycle.actions for cycle in history], lookback)
    assert differing(reading.trades, plain) == []
    check_sums(reading, plain)


def check_sums(reading: Reading, plain: Sequence[Plain]) -> None:
    """Counts and sums, all together and by symbol, of numbers that floats hold exactly."""
    summary = reading.summary
    assert sum(tally.trades for tally in summary.symbols.values()) == summary.total.trades
    for symbol, tally in [(None, summary.total), *summary.symbols.items()]:
        pnls = [trade.pnl for trade in plain if symbol in {None, trade.symbol}]
        wins, losses = [pnl for pnl in pnls if pnl > 0], [pnl for pnl in pnls if pnl < 0]
        assert (tally.trades, tally.winning, tally.losing) == (len(pnls), len(wins), len(losses))
        scale = Fraction(1e-12) * sum(abs(pnl) for pnl in pnls)
        for found, exact in ((tally.won, sum(wins)), (tally.lost, sum(losses)), (tally.pnl, sum(pnls))):
            assert abs(Fraction(found) - exact) <= scale
    totals = {symbol: tally.pnl for symbol, tally in summary.symbols.items()}
    if totals:
        assert totals[summary.best_symbol] == max(totals.values())
        assert totals[summary.worst_symbol] == min(totals.values())


@given(histories(wild=True), STARTS)
def test_no_number_is_infinite_or_none(history: list[Cycle], start: int) -> None:
    right, ledger = read_on(history, start)
    seen = account(history[start:])
    for reading in (right, read_as_nofx(history[start:], history)):
        tallies = [reading.summary.total, *reading.summary.symbols.values()]
        numbers = [
            *(number for trade in reading.trades for number in numbers_of(trade)),
            *(number for tally in tallies for number in (tally.won, tally.lost, tally.pnl, tally.average)),
            *(number for tally in tallies for number in (tally.average_win, tally.average_loss, tally.win_rate)),
            reading.profit_factor or 0.0,
            reading.sharpe_ratio or 0.0,
        ]
        assert [number for number in numbers if not isfinite(number)] == []
    held = [number for position in ledger.positions.values() for number in position[2:]]
    curve = [number for point in seen.curve for number in (point.balance, point.unrealized, point.equity)]
    fall = [seen.drawdown.amount, seen.drawdown.percent] if seen.drawdown else []
    assert [number for number in (*held, *curve, *fall) if not isfinite(number)] == []


def numbers_of(trade: Trade) -> list[float]:
    return [
        trade.quantity,
        trade.open_price,
        trade.close_price,
        trade.pnl,
        trade.position_value,
        trade.margin_used,
        trade.pnl_percent,
    ]


@given(histories(wild=True))
def test_the_kept_state_is_exact(history: list[Cycle]) -> None:
    ledger = Ledger()
    for cycle in history:
        assert load_actions(dump_actions(cycle.actions)) == list(cycle.actions)
        ledger.apply(cycle.actions)
        assert Ledger.load(ledger.dump()).positions == ledger.positions
        assert list(Ledger.load(ledger.dump()).positions) == list(ledger.positions), "in the order of opening"
