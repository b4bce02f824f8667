"""Positions and trades, paired by what happened: in the order of time, over all of a trader's history.

The state after each record that trades can be kept as text and gone on from, so a window is analysed without reading
what was before it.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from nofx_grpc.analysis.actions import Action, Kind, Meaning, Side
from nofx_grpc.analysis.trades import Trade, gain

# What a partial close leaves of a position, as a share of what was opened, counts as nothing: it is rounding.
_NOTHING: Final = 1e-4
# What is kept after each record has an end: beyond so many positions the oldest is given up.
_MOST_OPEN: Final = 200


class Position(NamedTuple):
    """An open position."""

    symbol: str
    side: Side
    quantity: float  # what was opened
    remaining: float
    price: float
    leverage: int
    opened: int  # nanoseconds since 1970 in UTC
    realized: float  # what partial closes have won


@dataclass(slots=True)
class Ledger:
    """The open positions, in the order of opening; and the trades and the oddities since this ledger was made."""

    positions: dict[tuple[str, Side], Position] = field(default_factory=dict)
    trades: list[Trade] = field(default_factory=list)
    unmatched: int = 0  # closes of a position that was not open
    replaced: int = 0  # positions opened again while open (how the first one ended is not in the log), or given up
    unusable: int = 0  # actions whose price or quantity is none

    @classmethod
    def load(cls, text: str) -> "Ledger":
        """A ledger that goes on from the positions that `dump` kept."""
        rows: list[list[Any]] = json.loads(text)
        kept = [Position(row[0], Side(row[1]), *row[2:]) for row in rows]
        return cls({(position.symbol, position.side): position for position in kept})

    def dump(self) -> str:
        """The open positions as text; `load` gives back the same, to the last bit."""
        return json.dumps(list(self.positions.values()), ensure_ascii=False, separators=(",", ":"))

    def apply(self, actions: Iterable[Action]) -> None:
        """Take the next actions."""
        for action in actions:
            match action.meaning:
                case Meaning(Kind.OPEN, Side() as side):
                    self._open(action, side)
                case Meaning(Kind.CLOSE):
                    self._close(action)
                case Meaning(Kind.PARTIAL_CLOSE):
                    self._close_partly(action)

    def _open(self, action: Action, side: Side) -> None:
        if self.positions.pop((action.symbol, side), None):
            self.replaced += 1
        if action.quantity <= 0 or action.price <= 0:
            self.unusable += 1
            return
        leverage = action.leverage or 1
        self.positions[action.symbol, side] = Position(
            action.symbol, side, action.quantity, action.quantity, action.price, leverage, action.time, 0.0
        )
        if len(self.positions) > _MOST_OPEN:
            del self.positions[next(iter(self.positions))]
            self.replaced += 1

    def _close(self, action: Action) -> None:
        position = self._position_of(action)
        if position is None:
            self.unmatched += 1
        elif action.price <= 0:
            self.unusable += 1
            del self.positions[position.symbol, position.side]
        else:
            self._finish(position, _reduced(position, position.remaining, action.price), action)

    def _close_partly(self, action: Action) -> None:
        position = self._position_of(action)
        if position is None:
            self.unmatched += 1
        elif action.quantity <= 0 or action.price <= 0:
            self.unusable += 1
        else:
            reduced = _reduced(position, min(action.quantity, position.remaining), action.price)
            if reduced.remaining <= position.quantity * _NOTHING:
                self._finish(position, reduced, action)
            else:
                self.positions[position.symbol, position.side] = reduced

    def _position_of(self, action: Action) -> Position | None:
        """The position that an action closes; of two sides, which a partial close does not tell apart, the older."""
        if action.meaning.side is not None:
            return self.positions.get((action.symbol, action.meaning.side))
        return next((held for held in self.positions.values() if held.symbol == action.symbol), None)

    def _finish(self, before: Position, position: Position, action: Action) -> None:
        """Make a trade of a position, whose last part was closed by this action."""
        del self.positions[position.symbol, position.side]
        at_once = before.remaining == before.quantity
        self.trades.append(
            Trade(
                position.symbol,
                position.side,
                position.quantity,
                position.leverage,
                position.price,
                action.price if at_once else _average_exit(position),
                position.realized,
                position.opened,
                action.time,
                action.meaning.automatic,
            )
        )


def _reduced(position: Position, quantity: float, price: float) -> Position:
    realized = position.realized + quantity * gain(position.side, position.price, price)
    return position._replace(remaining=position.remaining - quantity, realized=realized)


def _average_exit(position: Position) -> float:
    """The price at which the whole position would have won as much as its parts did."""
    per_unit = position.realized / (position.quantity - position.remaining)
    return position.price + (per_unit if position.side is Side.LONG else -per_unit)
