"""Made-up histories of trading, and a plain recomputation of what they came to.

The recomputation shares nothing with the code under test: it is exact (fractions), looks at the whole history for each
question, and is written from the words of docs/performance-analysis.md.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

from hypothesis import strategies as st

from nofx_grpc.analysis.actions import MEANINGS, Action, make_action
from nofx_grpc.analysis.equity import make_point
from nofx_grpc.analysis.performance import Cycle
from nofx_grpc.analysis.trades import Trade

SYMBOLS = ("BTCUSDT", "DOGEUSDT", "币安\0USDT")

# Numbers with few binary digits: what floats make of them is exact, so nothing hides behind a tolerance.
_round = st.integers(0, 2**16).map(lambda number: number / 64)
# Partial closes that leave just more, just less and just the share that counts as nothing.
_shares = st.sampled_from([0.0, 0.5, 0.25, 0.75, 1.0, 1.5, 0.9998, 0.99995, 100.0])
_huge_and_tiny = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -0.0, 1e-30, 1e30, -1e30, 1e31, 5e-324, 1.7e308, 1e-4, 1e15]),
)


@st.composite
def actions(draw: st.DrawFn, *, wild: bool = False) -> list[Action]:
    """A few actions of one record; `wild` ones hold any number that a double can."""
    found = []
    for word in draw(st.lists(st.sampled_from(sorted(MEANINGS)), max_size=3)):
        price, quantity = (draw(_huge_and_tiny if wild else _round) for _ in range(2))
        if not wild and draw(st.booleans()):
            quantity = draw(_shares) if word == "partial_close" else 1.0
        leverage = draw(st.sampled_from([0, 1, 5, 20, -3, 2**40]))
        time = draw(st.integers(0, 5)) * 10**9
        made = make_action(word, draw(st.sampled_from(SYMBOLS)), quantity, price, leverage, time)
        assert made is not None
        found.append(made)
    return found


@st.composite
def histories(draw: st.DrawFn, *, wild: bool = False, max_size: int = 25) -> list[Cycle]:
    """Records in order; times may be equal, accounts unreadable."""
    made: list[Cycle] = []
    number = _huge_and_tiny if wild else _round
    for records_actions in draw(st.lists(actions(wild=wild), max_size=max_size)):
        account = make_point(len(made) // 2, draw(number), draw(number))
        made.append(Cycle(account, records_actions))
    return made


class Plain(NamedTuple):
    """A trade of the recomputation; `scale` says how large the numbers were that its profit is a difference of."""

    symbol: str
    side: str
    quantity: Fraction
    open_time: int
    close_time: int
    pnl: Fraction
    scale: Fraction


def agree(trade: Trade, plain: Plain) -> bool:
    """Whether the trades are the same, and their profits but for what rounding explains."""
    exact = (trade.symbol, trade.side, Fraction(trade.quantity), trade.open_time, trade.close_time)
    return exact == plain[:5] and abs(Fraction(trade.pnl) - plain.pnl) <= plain.scale * Fraction(1e-12)


class _Leg:
    """A position of the recomputation."""

    def __init__(self, opening: Action) -> None:
        self.opening = opening
        self.side = opening.word.removeprefix("open_")
        self.left = self.whole = Fraction(opening.quantity)
        self.pnl = self.scale = Fraction(0)

    def sell(self, part: Fraction, price: float) -> None:
        bought, sold = Fraction(self.opening.price), Fraction(price)
        self.pnl += part * (sold - bought if self.side == "long" else bought - sold)
        self.scale += abs(part) * (abs(sold) + abs(bought))
        self.left -= part

    def trade(self, action: Action) -> Plain:
        symbol, opened = self.opening.symbol, self.opening.time
        return Plain(symbol, self.side, self.whole, opened, action.time, self.pnl, self.scale)


def right_trades(history: Sequence[Action], start: int) -> list[Plain]:
    """The trades that the actions from number `start` on have ended, replayed from the first day on."""
    legs: list[_Leg] = []
    trades = []
    for number, action in enumerate(history):
        of_symbol = [leg for leg in legs if leg.opening.symbol == action.symbol]
        held = [leg for leg in of_symbol if action.word.endswith(f"_{leg.side}")]
        sound = action.price > 0 and action.quantity > 0
        ended = False
        if action.word.startswith("open_"):
            legs = [leg for leg in legs if leg not in held] + ([_Leg(action)] if sound else [])
        elif action.word == "partial_close":
            held = of_symbol[:1] if sound else []
            for leg in held:
                leg.sell(min(leg.left, Fraction(action.quantity)), action.price)
                ended = leg.left * 10_000 <= leg.whole
        else:
            for leg in held:
                leg.sell(leg.left, action.price)
                legs.remove(leg)
                ended = action.price > 0
        if ended:
            trades += [held[0].trade(action)] if number >= start else []
            legs = [leg for leg in legs if leg is not held[0]]
    return trades


def nofx_trades(records: Sequence[Sequence[Action]], lookback: int) -> list[Plain]:
    """NOFX's trades of the latest `lookback` records, by its formulas."""
    window, longer = records[-lookback:], records[-3 * lookback :]
    legs: dict[str, _Leg] = {}
    if len(longer) > len(window):
        for action in (action for record in longer for action in record):
            key = action.symbol + action.word[-6:].rpartition("_")[2]
            if action.word.startswith("open_"):
                legs[key] = _Leg(action)
            elif action.word != "partial_close":
                legs.pop(key, None)
    trades = []
    for action in (action for record in window for action in record):
        key = action.symbol + action.word[-6:].rpartition("_")[2]
        if action.word == "partial_close":
            keys = [action.symbol + side for side in ("long", "short") if action.symbol + side in legs]
            key = keys[0] if keys else ""
        if action.word.startswith("open_"):
            legs[key] = _Leg(action)
        elif key in legs:
            partly = action.word == "partial_close"
            legs[key].sell(Fraction(action.quantity) if partly else legs[key].left, action.price)
            if not partly or legs[key].left <= Fraction(0.0001):
                trades.append(legs.pop(key).trade(action))
    return trades


def flat(cycles: Iterable[Cycle]) -> list[Action]:
    return [action for cycle in cycles for action in cycle.actions]
