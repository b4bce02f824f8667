"""The positions that are open after each record that trades: what makes the analysis of a window cheap."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, bindparam, select, tuple_, update

from nofx_grpc.analysis.actions import load_actions
from nofx_grpc.analysis.ledger import Ledger
from nofx_grpc.store.decisions.entries import Entry, Key
from nofx_grpc.store.decisions.tables import decisions

_AT_ONCE: Final = 500

_AT = tuple_(decisions.c.time_ns, decisions.c.id)
_PLACE = tuple_(bindparam("time_ns"), bindparam("id"))
_TRADING = (decisions.c.log_id == bindparam("log_id"), decisions.c.trades.is_not(None))
_BEFORE = (
    select(decisions.c.legs)
    .where(*_TRADING, _AT < _PLACE)
    .order_by(decisions.c.time_ns.desc(), decisions.c.id.desc())
    .limit(1)
)
_FROM = (
    select(decisions.c.time_ns, decisions.c.id, decisions.c.trades, decisions.c.legs)
    .where(*_TRADING, _AT >= _PLACE)
    .order_by(decisions.c.time_ns, decisions.c.id)
)
_KEEP = (
    update(decisions)
    .where(decisions.c.log_id == bindparam("of_log"), decisions.c.id == bindparam("of_id"))
    .values(legs=bindparam("now"))
)


def open_before(connection: Connection, log_id: int, place: Key) -> Ledger:
    """What is open after the last record that comes before this place by time."""
    legs = connection.execute(_BEFORE, {"log_id": log_id} | place._asdict()).scalar_one_or_none()
    return Ledger.load(legs) if legs else Ledger()


def settle(connection: Connection, log_id: int, changed: Sequence[Entry]) -> None:
    """Bring the open positions in step with entries that were put into the index, or taken out of it.

    An entry that continues the log costs a row.  An older one costs the trading records after it, up to the first that
    leaves open what it left open before.
    """
    places = sorted(Key(entry.time_ns, entry.id) for entry in changed if entry.trades is not None)
    if not places:
        return
    ledger = open_before(connection, log_id, places[0])
    differing = []
    values = {"log_id": log_id} | places[0]._asdict()
    with connection.execute(_FROM, values, execution_options={"yield_per": _AT_ONCE}) as rows:
        for time_ns, id, trades, legs in rows:
            ledger.apply(load_actions(trades))
            now = ledger.dump()
            if now != legs:
                differing.append({"of_log": log_id, "of_id": id, "now": now})
            elif (time_ns, id) >= places[-1]:
                break
    if differing:
        connection.execute(_KEEP, differing)
