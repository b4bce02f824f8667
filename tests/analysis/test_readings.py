"""Where NOFX's reading is wrong, and what the right one says instead: one test for each difference in the docs."""

from collections.abc import Iterable

import pytest

from nofx_grpc.analysis.actions import Action, Side, make_action
from nofx_grpc.analysis.equity import make_point
from nofx_grpc.analysis.ledger import Ledger
from nofx_grpc.analysis.performance import Cycle, Reading, read, read_as_nofx

SECOND = 10**9


def history(*lines: str, balances: Iterable[tuple[float, float]] = ()) -> list[Cycle]:
    """A record for each line, a minute apart: actions as 'open_long BTC 2@100', several with commas, '' for none."""
    accounts = list(balances) or [(1000.0, 0.0)] * len(lines)
    return [
        Cycle(make_point(number * 60 * SECOND, *accounts[number]), [action(text, number) for text in split(line)])
        for number, line in enumerate(lines)
    ]


def split(line: str) -> list[str]:
    return [part for part in line.split(", ") if part]


def action(text: str, number: int) -> Action:
    word, symbol, amount = text.split()
    quantity, _, price = amount.partition("@")
    made = make_action(word, symbol, float(quantity), float(price), 5, number * 60 * SECOND)
    assert made is not None
    return made


def right(cycles: list[Cycle], start: int = 0) -> tuple[Reading, Ledger]:
    before = Ledger()
    before.apply(action for cycle in cycles[:start] for action in cycle.actions)
    ledger = Ledger.load(before.dump())
    return read(cycles[start:], ledger), ledger


def as_nofx(cycles: list[Cycle], lookback: int = 100) -> Reading:
    return read_as_nofx(cycles[-lookback:], cycles[-3 * lookback :])


def pnls(reading: Reading) -> list[float]:
    return [trade.pnl for trade in reading.trades]


def test_both_agree_on_what_is_plain() -> None:
    cycles = history("open_long BTC 2@100, open_short ETH 1@50", "close_long BTC 0@110", "close_short ETH 0@60")
    for reading in (right(cycles)[0], as_nofx(cycles)):
        assert pnls(reading) == [20.0, -10.0]
        first = reading.trades[0]
        assert (first.position_value, first.margin_used, first.pnl_percent) == (200.0, 40.0, 50.0)
        assert (first.side, first.duration) == (Side.LONG, 60 * SECOND)
        assert (reading.summary.best_symbol, reading.summary.worst_symbol) == ("BTC", "ETH")
        assert (reading.summary.total.win_rate, reading.profit_factor) == (50.0, 2.0)


def test_position_from_before_the_window_is_kept() -> None:
    cycles = history("open_long BTC 2@100", "", "close_long BTC 0@110")
    assert pnls(as_nofx(cycles, 2)) == []
    assert pnls(right(cycles, 1)[0]) == [20.0]


def test_close_never_meets_a_later_opening() -> None:
    cycles = history("open_long BTC 2@100", "", "close_long BTC 0@110", "open_long BTC 1@500")
    [wrong] = as_nofx(cycles, 2).trades
    assert (wrong.pnl, wrong.duration) == (-390.0, -60 * SECOND)
    [trade] = right(cycles, 2)[0].trades
    assert (trade.pnl, trade.duration) == (20.0, 120 * SECOND)


def test_parts_closed_before_the_window_are_kept() -> None:
    cycles = history("open_long BTC 2@100", "partial_close BTC 1@200", "", "close_long BTC 0@100", "open_long BTC 1@90")
    assert pnls(as_nofx(cycles, 2)) == [10.0]  # the later opening, closed before it was opened
    assert pnls(right(cycles, 3)[0]) == [100.0]


def test_remainder_is_judged_by_the_size_of_the_position() -> None:
    small = history("open_long BTC 0.0002@100000", "partial_close BTC 0.0001@110000", "close_long BTC 0@90000")
    # NOFX takes half of the position for all of it, and does not find what is closed later.
    assert pnls(as_nofx(small)) == [pytest.approx(1.0)]
    assert pnls(right(small)[0]) == [pytest.approx(1.0 - 1.0)]
    large = history("open_long DOGE 1000000@0.1", "partial_close DOGE 999999.99@0.2")
    assert pnls(as_nofx(large)) == []  # still waits for a hundredth of a coin
    assert pnls(right(large)[0]) == [pytest.approx(99999.999)]


@pytest.mark.parametrize(("part", "trades"), [(0.9998, 0), (0.99995, 1), (1, 1)])
def test_a_ten_thousandth_of_the_position_is_nothing(part: float, trades: int) -> None:
    cycles = history("open_long BTC 5@100", f"partial_close BTC {5 * part}@110")
    assert len(right(cycles)[0].trades) == trades


def test_part_is_never_more_than_what_is_held() -> None:
    cycles = history("open_long BTC 2@100", "partial_close BTC 5@110")
    assert pnls(as_nofx(cycles)) == [50.0]
    assert pnls(right(cycles)[0]) == [20.0]


def test_closing_price_of_parts_is_their_average() -> None:
    cycles = history("open_short BTC 2@100", "partial_close BTC 1@80", "close_short BTC 0@120")
    [theirs], [ours] = as_nofx(cycles).trades, right(cycles)[0].trades
    assert (theirs.pnl, theirs.close_price) == (ours.pnl, 120.0) == (0.0, 120.0)
    assert ours.close_price == 100.0


def test_what_does_not_match_is_counted() -> None:
    cycles = history(
        "close_long BTC 0@100",  # never opened
        "partial_close ETH 1@100",  # never opened
        "open_long BTC 1@100",
        "open_long BTC 1@120",  # how the first one ended is not in the log
        "open_short ETH 0@100",  # no quantity
        "open_short SOL 1@0",  # no price
        "close_short SOL 0@1",  # of what was not opened for a price
        "partial_close BTC 0@130",  # no quantity
        "close_long BTC 0@0",  # no price
    )
    reading, ledger = right(cycles)
    assert (pnls(reading), ledger.positions) == ([], {})
    assert (ledger.unmatched, ledger.replaced, ledger.unusable) == (3, 1, 4)


def test_part_without_a_side_is_of_the_position_that_there_is() -> None:
    cycles = history("open_short BTC 2@100", "partial_close BTC 2@90")
    assert pnls(right(cycles)[0]) == pnls(as_nofx(cycles)) == [20.0]


def test_part_of_two_sides_is_of_the_older() -> None:
    cycles = history("open_short BTC 2@100", "open_long BTC 2@100", "partial_close BTC 2@90")
    assert pnls(right(cycles)[0]) == [20.0]
    assert pnls(as_nofx(cycles)) == [-20.0], "NOFX leaves it to chance; here the long one is taken"


def test_position_opened_again_is_the_younger() -> None:
    again = history("open_short BTC 2@100", "open_long BTC 2@100", "open_short BTC 2@100", "partial_close BTC 2@90")
    assert pnls(right(again)[0]) == [-20.0]


def test_position_that_is_opened_without_a_price_is_not_the_one_before() -> None:
    assert right(history("open_long BTC 2@100", "open_long BTC 2@0"))[1].positions == {}


def test_open_positions_show_what_parts_have_won() -> None:
    _, ledger = right(history("open_long BTC 2@100", "partial_close BTC 1@110"))
    [position] = ledger.positions.values()
    assert (position.quantity, position.remaining, position.realized) == (2.0, 1.0, 10.0)


def test_ratios_without_a_divisor_are_left_out() -> None:
    won = history("open_long BTC 2@100", "close_long BTC 0@110", balances=[(100.0, 0.0), (110.0, 0.0)])
    theirs, ours = as_nofx(won), right(won)[0]
    assert (theirs.profit_factor, theirs.sharpe_ratio) == (999.0, 999.0)
    assert (ours.profit_factor, ours.sharpe_ratio) == (None, None)
    lost = history("", "", balances=[(100.0, 0.0), (90.0, 0.0)])
    assert (as_nofx(lost).profit_factor, as_nofx(lost).sharpe_ratio) == (0.0, -999.0)
    still = history("", "", balances=[(100.0, 0.0), (100.0, 0.0)])
    assert (as_nofx(still).sharpe_ratio, right(still)[0].sharpe_ratio) == (0.0, None)
    assert (as_nofx([]).sharpe_ratio, as_nofx(still[:1]).sharpe_ratio) == (0.0, 0.0)


def test_sharpe_ratio_is_of_equity() -> None:
    cycles = history("", "", "", balances=[(100.0, 0.0), (100.0, 10.0), (100.0, -12.0)])
    assert as_nofx(cycles).sharpe_ratio == 0.0
    # Returns of +10 % and -20 %: mean -5 %, deviation 15 %.
    assert right(cycles)[0].sharpe_ratio == pytest.approx(-1 / 3)


def test_cycle_that_could_not_read_the_account_is_left_out() -> None:
    cycles = history("", "", "", balances=[(100.0, 0.0), (0.0, 0.0), (110.0, 0.0)])
    assert as_nofx(cycles).sharpe_ratio == 999.0


def test_close_by_the_exchange_is_a_close() -> None:
    cycles = history("open_long BTC 2@100", "auto_close_long BTC 0@90")
    for reading in (right(cycles)[0], as_nofx(cycles)):
        assert [(trade.pnl, trade.automatic) for trade in reading.trades] == [(-20.0, True)]


def test_unknown_leverage_is_none() -> None:
    opening = make_action("open_long", "BTC", 2.0, 100.0, 0, 0)
    closing = make_action("close_long", "BTC", 0.0, 110.0, 0, 1)
    assert opening and closing
    cycles = [Cycle(make_point(0, 1.0, 0.0), [opening, closing])]
    [theirs], [ours] = as_nofx(cycles).trades, right(cycles)[0].trades
    assert (theirs.margin_used, theirs.pnl_percent) == (0.0, 0.0)
    assert (ours.margin_used, ours.pnl_percent) == (200.0, 10.0)


def test_negative_margin_is_none() -> None:
    [trade] = as_nofx(history("open_long BTC -2@100", "close_long BTC 0@110")).trades
    assert (trade.pnl, trade.margin_used, trade.pnl_percent) == (-20.0, -40.0, 0.0)


def test_what_is_kept_has_an_end() -> None:
    _, ledger = right(history(*(f"open_long {'X' * 1000}{n} 1@1" for n in range(3))))
    assert [len(position.symbol) for position in ledger.positions.values()] == [100]
    _, ledger = right(history(*(f"open_long COIN{n} 1@1" for n in range(250))))
    assert [position.symbol for position in ledger.positions.values()] == [f"COIN{n}" for n in range(50, 250)]
    assert ledger.replaced == 50


def test_other_actions_touch_no_position() -> None:
    for word in ("hold", "wait", "update_stop_loss", "", "OPEN_LONG"):
        assert make_action(word, "BTC", 1.0, 1.0, 1, 0) is None
