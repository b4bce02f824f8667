"""The actions that open and close positions, as a record's `decisions` give them, and as the index keeps them."""

import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final, NamedTuple

_SMALLEST: Final = 1e-30
_LARGEST: Final = 1e30  # products and quotients of a few of these, squared and summed, are still finite
_MOST_LEVERAGE: Final = 1_000_000
_LONGEST_SYMBOL: Final = 100


class Side(StrEnum):
    """The two directions of a position."""

    LONG = "long"
    SHORT = "short"


class Kind(StrEnum):
    """What an action does to a position."""

    OPEN = "open"
    CLOSE = "close"
    PARTIAL_CLOSE = "partial_close"


class Meaning(NamedTuple):
    """What the word of an action means."""

    kind: Kind
    side: Side | None  # a partial close does not say which
    automatic: bool = False  # the exchange closed the position: a stop, a target, a liquidation


MEANINGS: Final = {
    "open_long": Meaning(Kind.OPEN, Side.LONG),
    "open_short": Meaning(Kind.OPEN, Side.SHORT),
    "close_long": Meaning(Kind.CLOSE, Side.LONG),
    "close_short": Meaning(Kind.CLOSE, Side.SHORT),
    "auto_close_long": Meaning(Kind.CLOSE, Side.LONG, automatic=True),
    "auto_close_short": Meaning(Kind.CLOSE, Side.SHORT, automatic=True),
    "partial_close": Meaning(Kind.PARTIAL_CLOSE, None),
}


class Action(NamedTuple):
    """One successful action on a position.  Numbers are usable: see `usable`."""

    word: str
    symbol: str
    quantity: float
    price: float
    leverage: int
    time: int  # nanoseconds since 1970 in UTC

    @property
    def meaning(self) -> Meaning:
        return MEANINGS[self.word]


def usable(number: float) -> float:
    """The number, or 0 if it is none that a trade can have: what is computed from usable numbers is finite."""
    return number if _SMALLEST <= abs(number) <= _LARGEST else 0.0


def make_action(word: str, symbol: str, quantity: float, price: float, leverage: int, time: int) -> Action | None:
    """The action, with 0 for a number that no trade can have, and a symbol that ends somewhere; None for a word that
    touches no position.
    """
    if word not in MEANINGS:
        return None
    leverage = leverage if 0 < leverage <= _MOST_LEVERAGE else 0
    return Action(word, symbol[:_LONGEST_SYMBOL], usable(quantity), usable(price), leverage, time)


def dump_actions(actions: Iterable[Action]) -> str:
    """The text that the index keeps; `load_actions` gives back the same, to the last bit."""
    return json.dumps(list(actions), ensure_ascii=False, separators=(",", ":"))


def load_actions(text: str) -> list[Action]:
    """The actions of a text that `dump_actions` made."""
    rows: list[list[Any]] = json.loads(text)
    return [Action(*row) for row in rows]
