"""The logs: one row for each trader that has records, which says whose they are, where, and how many."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, column, func, insert, outerjoin, select, table, update

from nofx_grpc.decisions.names import MOST_CYCLES, folded, plain_folder, spelt_folder
from nofx_grpc.store.decisions.entries import Counts, Entry, counts_of
from nofx_grpc.store.decisions.tables import decision_logs


class Log(NamedTuple):
    """What is known of a trader's records, all together."""

    id: int
    trader_id: str
    user_id: str  # '' for records that came from elsewhere
    folder: str
    last_cycle: int
    last_serial: int
    total_cycles: int
    successful_cycles: int
    opens: int
    closes: int
    partial_closes: int
    size_bytes: int


class Owned(NamedTuple):
    """A trader id: its log if it has one, and the user whose trader it is, if there is one."""

    log: Log | None
    trader_user_id: str | None

    @property
    def owner(self) -> str:
        """The user whose the records are; '' if they are nobody's."""
        return (self.log.user_id if self.log else "") or self.trader_user_id or ""


# The folders of traders without a log by their ids, None for one that has none on disk.
Claims = Mapping[str, str | None]


class Moved(Exception):
    """Somebody else has appended to the log since it was read: read it again."""


_traders = table("traders", column("id"), column("user_id"))
_LOG_COLUMNS = [decision_logs.c[name] for name in Log._fields]
_wanted = select(bindparam("trader_id").label("trader_id")).subquery()
_FIND = select(_traders.c.user_id.label("trader_user_id"), *_LOG_COLUMNS).select_from(
    outerjoin(
        outerjoin(_wanted, _traders, _traders.c.id == _wanted.c.trader_id),
        decision_logs,
        decision_logs.c.trader_id == _wanted.c.trader_id,
    )
)
_ALL = select(*_LOG_COLUMNS).where(decision_logs.c.trader_id > bindparam("after")).order_by(decision_logs.c.trader_id)
_ALL = _ALL.limit(bindparam("limit"))
_TAKEN = select(func.count()).where(
    decision_logs.c.folded_folder == bindparam("folded"), decision_logs.c.trader_id != bindparam("trader_id")
)
_INSERT = insert(decision_logs).returning(*_LOG_COLUMNS)
_BUMP = {
    decision_logs.c[name]: decision_logs.c[name] + bindparam(f"more_{name}")
    for name in ("last_serial", "total_cycles", "successful_cycles", "opens", "closes", "partial_closes", "size_bytes")
}
_THIS = decision_logs.c.id == bindparam("log_id")
_APPEND = (
    update(decision_logs)
    .where(_THIS, decision_logs.c.last_cycle == bindparam("before"))
    .values({**_BUMP, decision_logs.c.last_cycle: bindparam("cycle")})
    .returning(decision_logs.c.last_serial)
)
_ADD = update(decision_logs).where(_THIS).values(_BUMP).returning(decision_logs.c.last_serial)
_RAISE = (
    update(decision_logs)
    .where(_THIS, decision_logs.c.last_cycle < bindparam("cycle"))
    .values(last_cycle=bindparam("cycle"))
)
_DISOWN = update(decision_logs).where(_THIS, decision_logs.c.total_cycles == 0).values(user_id="", pruned=None)
_OWN = update(decision_logs).where(_THIS, decision_logs.c.user_id == "").values(user_id=bindparam("owner"))


def find(connection: Connection, trader_id: str) -> Owned:
    """The log of a trader id, and whose trader it is."""
    trader_user_id, *values = connection.execute(_FIND, {"trader_id": trader_id}).one()
    return Owned(Log(*values) if values[0] is not None else None, trader_user_id)


def all_after(connection: Connection, trader_id: str, limit: int) -> list[Log]:
    """Logs in the order of their traders' ids, from after one of them."""
    return [Log(*row) for row in connection.execute(_ALL, {"after": trader_id, "limit": limit})]


def new_folder(connection: Connection, trader_id: str) -> str:
    """The folder for a trader without a log: the plain one, unless that is not safe or another's in another case."""
    plain = plain_folder(trader_id)
    if plain is None or connection.execute(_TAKEN, {"folded": folded(plain), "trader_id": trader_id}).scalar_one():
        return spelt_folder(trader_id)
    return plain


def ensure(connection: Connection, trader_id: str, folder: str, found: Owned) -> Log:
    """The log of a trader that `find` has found, made if there is none, and its trader's user's if it was nobody's."""
    owner = found.trader_user_id or ""
    if found.log is None:
        values = {"trader_id": trader_id, "user_id": owner, "folder": folder, "folded_folder": folded(folder)}
        return Log(*connection.execute(_INSERT, values).one())
    if owner and not found.log.user_id:
        connection.execute(_OWN, {"log_id": found.log.id, "owner": owner})
    return found.log._replace(user_id=found.log.user_id or owner)


def claim(connection: Connection, claims: Claims) -> None:
    """Write down whose the records of traders are, be they in the index yet or not: once a trader is deleted, nothing
    else tells.
    """
    for trader_id, folder in claims.items():
        found = find(connection, trader_id)
        if found.trader_user_id is not None and (found.log is not None or folder is not None):
            ensure(connection, trader_id, folder or "", found)


def disown(connection: Connection, log_id: int) -> None:
    """Make a log without records nobody's, with nothing open: it is the next one's who has a trader of this id."""
    connection.execute(_DISOWN, {"log_id": log_id})


def count_appended(connection: Connection, log: Log, entry: Entry) -> int:
    """Count a record that continues the log, and return its serial.  Raises Moved."""
    values = _more(log, [entry]) | {"before": log.last_cycle, "cycle": entry.cycle_number}
    serial = connection.execute(_APPEND, values).scalar_one_or_none()
    if serial is None:
        raise Moved
    return int(serial)


def count_added(connection: Connection, log: Log, entries: list[Entry]) -> int:
    """Count records that came from elsewhere, and return the serial before the first of them."""
    return int(connection.execute(_ADD, _more(log, entries)).scalar_one()) - len(entries)


def use_up(connection: Connection, log_id: int, cycles: Iterable[int]) -> None:
    """Have the log go on after these numbers."""
    if used := [cycle for cycle in cycles if cycle < MOST_CYCLES]:
        connection.execute(_RAISE, {"log_id": log_id, "cycle": max(used)})


def count_removed(connection: Connection, log_id: int, counts: Counts) -> None:
    """Take records that are gone out of the count; their cycle numbers and serials are not used again."""
    values = {f"more_{name}": -value for name, value in counts._asdict().items()}
    connection.execute(_ADD, {"log_id": log_id, "more_last_serial": 0} | values)


def _more(log: Log, entries: Iterable[Entry]) -> dict[str, int]:
    counts = counts_of(entries)
    values = {f"more_{name}": value for name, value in counts._asdict().items()}
    return {"log_id": log.id, "more_last_serial": counts.total_cycles} | values
