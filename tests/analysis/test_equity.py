"""The account over time: what can be read of it, and its worst fall."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nofx_grpc.analysis.equity import Drawdown, Point, known, make_point, max_drawdown, spread_of_returns


def points(*values: float) -> list[Point]:
    return [make_point(number, value, 0.0) for number, value in enumerate(values)]


def test_worst_fall_is_from_the_peak_before_it() -> None:
    fall = max_drawdown(points(100, 120, 90, 130, 110, 140))
    assert fall == Drawdown(Point(1, 120, 0), Point(2, 90, 0))
    assert (fall.amount, fall.percent) == (30, 25)


def test_fall_is_judged_in_percent() -> None:
    fall = max_drawdown(points(10, 5, 1000, 900))
    assert fall is not None and (fall.amount, fall.percent) == (5, 50)


def test_no_fall_is_none() -> None:
    assert [max_drawdown(points(*values)) for values in [(), (1,), (1, 1, 2)]] == [None, None, None]


def test_profit_of_open_positions_counts() -> None:
    fall = max_drawdown([Point(0, 100, 0), Point(1, 100, -30), Point(2, 100, -150)])
    assert fall is not None and fall.percent == 150, "an account can be worth less than nothing"


@given(st.lists(st.integers(1, 1000), max_size=12))
def test_worst_fall_is_the_worst_of_all(values: list[int]) -> None:
    falls = [(before - after) / before for before, after in combinations(values, 2) if after < before]
    found = max_drawdown(points(*values))
    assert (found.percent if found else 0) == max((fall * 100 for fall in falls), default=0)


def test_unread_account_is_left_out() -> None:
    assert known([Point(0, 0, 0), Point(1, 5, -9), Point(2, -1, 50)]) == [Point(1, 5, -9)]


def test_returns_from_nothing_are_left_out() -> None:
    assert spread_of_returns([100, 0, -5, 100, 110]) == pytest.approx((-0.45, 0.55))  # -100 % and +10 %
    assert [spread_of_returns(values) for values in ([], [5], [0, 5], [-1, 5])] == [None] * 4


@pytest.mark.parametrize("rate", [0.01, 1e-7, 0.3, -0.02])
def test_equal_returns_have_no_deviation_but_rounding(rate: float) -> None:
    values = [1000.0]
    for _ in range(50):
        values.append(values[-1] * (1 + rate))
    spread = spread_of_returns(values)
    assert spread is not None and spread.deviation > 0 and not spread.deviates


def test_the_smallest_returns_that_an_account_can_tell_apart_deviate() -> None:
    spread = spread_of_returns([1000.0, 1000.00000001, 1000.00000001])
    assert spread is not None and spread.deviates
