"""The positions that are open after each record that trades: what makes the analysis of a window cheap.

A record that comes late, or goes, may change all that come after it.  They are brought in step a part at a time: what
is not yet is marked, and whoever reads there replays the actions instead.

Pruning changes nothing that comes after it: what was open then is kept with the log.  A record from before that, which
comes late, changes nothing after it either.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, Row, bindparam, select, tuple_, update

from nofx_grpc.analysis.actions import load_actions
from nofx_grpc.analysis.ledger import Ledger
from nofx_grpc.store.decisions.entries import AFTER_ALL, BEFORE_ALL, Entry, Key
from nofx_grpc.store.decisions.tables import decision_logs, decisions

AT_ONCE: Final = 500  # records that are gone through in one transaction

_AT = tuple_(decisions.c.time_ns, decisions.c.id)
_PLACE = tuple_(bindparam("time_ns"), bindparam("id"))
_TRADING = (decisions.c.log_id == bindparam("log_id"), decisions.c.trades.is_not(None))
_BEFORE = (
    select(decisions.c.legs)
    .where(*_TRADING, _AT < _PLACE, tuple_(bindparam("after_ns"), bindparam("after_id")) < _AT)
    .order_by(decisions.c.time_ns.desc(), decisions.c.id.desc())
    .limit(1)
)
_FROM = (
    select(decisions.c.time_ns, decisions.c.id, decisions.c.trades, decisions.c.legs)
    .where(*_TRADING, _AT >= _PLACE)
    .order_by(decisions.c.time_ns, decisions.c.id)
    .limit(bindparam("limit"))
)
_KEEP = (
    update(decisions)
    .where(decisions.c.log_id == bindparam("of_log"), decisions.c.id == bindparam("of_id"))
    .values(legs=bindparam("now"))
)
_STATE = select(decision_logs.c.unsettled, decision_logs.c.pruned).where(decision_logs.c.id == bindparam("log_id"))
_MARK_OF_TRADER = select(decision_logs.c.id, decision_logs.c.unsettled).where(
    decision_logs.c.trader_id == bindparam("trader_id")
)
_MARK = update(decision_logs).where(decision_logs.c.id == bindparam("log_id")).values(unsettled=bindparam("mark"))
_SET_EDGE = update(decision_logs).where(decision_logs.c.id == bindparam("log_id")).values(pruned=bindparam("edge"))


class Edge(NamedTuple):
    """The last record that was pruned, and what was open after it."""

    last: Key
    legs: str

    @classmethod
    def load(cls, text: str | None) -> "Edge":
        if text is None:
            return cls(BEFORE_ALL, "[]")
        last, legs = json.loads(text)
        return cls(Key(*last), legs)

    def dump(self) -> str:
        return json.dumps(self, ensure_ascii=False)


class Unsettled(NamedTuple):
    """Records whose positions may be wrong: from one on, up to the first right one that comes after another."""

    start: Key
    last: Key

    @classmethod
    def load(cls, text: str | None) -> "Unsettled | None":
        if text is None:
            return None
        start, last = json.loads(text)
        return cls(Key(*start), Key(*last))

    def dump(self) -> str:
        return json.dumps(self, ensure_ascii=False)

    def joined(self, other: "Unsettled | None") -> "Unsettled":
        """Both.  A right one between the two says nothing of those from the later start on."""
        if other is None:
            return self
        return Unsettled(min(self.start, other.start), max(self.last, other.last, self.start, other.start))


def open_before(connection: Connection, log_id: int, place: Key) -> Ledger:
    """What is open after the last record that comes before this place by time."""
    mark, edge = _state(connection, log_id)
    if mark is None or place <= mark.start:
        return _kept_before(connection, log_id, place, edge)
    replay = _Replay(connection, log_id, mark.start, edge)
    for row in _from(connection, log_id, mark.start):
        if Key(row.time_ns, row.id) >= place:
            break
        replay.apply(Key(row.time_ns, row.id), row.trades)
    return Ledger(replay.ledger_at(place).positions)


def keep_before(connection: Connection, log_id: int, last: Key) -> None:
    """Keep what is open after a record that is about to be pruned, with all before it."""
    _, edge = _state(connection, log_id)
    if last > edge.last:
        ledger = open_before(connection, log_id, Key(last.time_ns, f"{last.id}\x01"))  # there is no id between the two
        connection.execute(_SET_EDGE, {"log_id": log_id, "edge": Edge(last, ledger.dump()).dump()})


def settle(connection: Connection, log_id: int, changed: Sequence[Entry]) -> bool:
    """Bring open positions in step with entries that were put into the index, or taken out of it.

    An entry that continues the log costs a row.  An older one costs the trading records after it, up to the first that
    leaves open what it left open before.  Whether there is more to do than is done at one time: see `go_on`.
    """
    places = sorted(Key(entry.time_ns, entry.id) for entry in changed if entry.trades is not None)
    if not places:
        return False
    mark, _ = _state(connection, log_id)
    return _go_on(connection, log_id, Unsettled(places[0], places[-1]).joined(mark), mark)


def is_unsettled(connection: Connection, trader_id: str) -> bool:
    """Whether some of a trader's positions may be wrong."""
    row = connection.execute(_MARK_OF_TRADER, {"trader_id": trader_id}).one_or_none()
    return row is not None and row.unsettled is not None


def go_on(connection: Connection, trader_id: str) -> bool:
    """Bring some more of a trader's positions in step; whether there is more to do."""
    row = connection.execute(_MARK_OF_TRADER, {"trader_id": trader_id}).one_or_none()
    mark = None if row is None else Unsettled.load(row.unsettled)
    return row is not None and mark is not None and _go_on(connection, row.id, mark, mark)


def _go_on(connection: Connection, log_id: int, wanted: Unsettled, mark: Unsettled | None) -> bool:
    """Settle what is done at one time of what is wanted, and mark what is left of it."""
    left = _rewrite(connection, log_id, wanted)
    if left != mark:
        connection.execute(_MARK, {"log_id": log_id, "mark": None if left is None else left.dump()})
    return left is not None


def _rewrite(connection: Connection, log_id: int, wanted: Unsettled) -> Unsettled | None:
    """Replay as many records as are gone through at one time; what is left of them."""
    _, edge = _state(connection, log_id)
    replay, differing, left = _Replay(connection, log_id, wanted.start, edge), [], None
    for number, (time_ns, id, trades, legs) in enumerate(_from(connection, log_id, wanted.start, AT_ONCE + 1)):
        if number == AT_ONCE:
            left = Unsettled(Key(time_ns, id), wanted.last)
            break
        now = replay.apply(Key(time_ns, id), trades).dump()
        if now != legs:
            differing.append({"of_log": log_id, "of_id": id, "now": now})
        elif (time_ns, id) >= wanted.last:
            break
    if differing:
        connection.execute(_KEEP, differing)
    return left


class _Replay:
    """What is open along the records from a place on; it begins anew after what was pruned."""

    def __init__(self, connection: Connection, log_id: int, start: Key, edge: Edge) -> None:
        self._edge = edge if start <= edge.last else None  # which is yet to come
        self._ledger = _kept_before(connection, log_id, start, edge)

    def apply(self, place: Key, trades: str) -> Ledger:
        ledger = self.ledger_at(place)
        ledger.apply(load_actions(trades))
        return ledger

    def ledger_at(self, place: Key) -> Ledger:
        if self._edge is not None and place > self._edge.last:
            self._ledger, self._edge = Ledger.load(self._edge.legs), None
        return self._ledger


def _kept_before(connection: Connection, log_id: int, place: Key, edge: Edge) -> Ledger:
    if place <= edge.last:
        edge = Edge.load(None)
    values = {"log_id": log_id, "after_ns": edge.last.time_ns, "after_id": edge.last.id} | place._asdict()
    return Ledger.load(connection.execute(_BEFORE, values).scalar_one_or_none() or edge.legs)


def _state(connection: Connection, log_id: int) -> tuple[Unsettled | None, Edge]:
    row = connection.execute(_STATE, {"log_id": log_id}).one_or_none()
    return (None, Edge.load(None)) if row is None else (Unsettled.load(row.unsettled), Edge.load(row.pruned))


def _from(
    connection: Connection, log_id: int, place: Key, limit: int = AFTER_ALL.time_ns
) -> Iterator[Row[int, str, str, str | None]]:
    """The trading records from this place on, of which few are in memory at one time."""
    values = {"log_id": log_id, "limit": limit} | place._asdict()
    with connection.execute(_FROM, values, execution_options={"yield_per": AT_ONCE}) as rows:
        yield from rows
