"""What the analysis of a trader's latest cycles needs, read from the index alone."""

from collections.abc import Sequence

from sqlalchemy import Connection, Row, bindparam, select

from nofx_grpc.analysis.actions import load_actions
from nofx_grpc.analysis.as_nofx import LONGER
from nofx_grpc.analysis.equity import make_point
from nofx_grpc.analysis.ledger import Ledger
from nofx_grpc.analysis.performance import Cycle, Window
from nofx_grpc.store.decisions.entries import Key
from nofx_grpc.store.decisions.positions import open_before
from nofx_grpc.store.decisions.tables import decisions

_CYCLES = select(
    decisions.c.time_ns, decisions.c.id, decisions.c.total_balance, decisions.c.unrealized_profit, decisions.c.trades
).where(decisions.c.log_id == bindparam("log_id"))
_BY_TIME = _CYCLES.order_by(decisions.c.time_ns.desc(), decisions.c.id.desc()).limit(bindparam("limit"))
_BY_NAME = _CYCLES.order_by(decisions.c.id.desc()).limit(bindparam("limit"))


def latest(connection: Connection, log_id: int, lookback: int) -> Window:
    """The window of so many cycles.  Its cost goes with their number, not with the length of the log."""
    by_time = connection.execute(_BY_TIME, {"log_id": log_id, "limit": lookback}).all()
    longer = _cycles(connection.execute(_BY_NAME, {"log_id": log_id, "limit": lookback * LONGER}).all())
    before = open_before(connection, log_id, Key(by_time[-1].time_ns, by_time[-1].id)) if by_time else Ledger()
    return Window(_cycles(by_time), before, longer[-lookback:], longer)


def _cycles(newest_first: Sequence[Row[int, str, float, float, str | None]]) -> list[Cycle]:
    return [
        Cycle(make_point(time_ns, balance, unrealized), load_actions(trades) if trades else ())
        for time_ns, _, balance, unrealized, trades in reversed(newest_first)
    ]
