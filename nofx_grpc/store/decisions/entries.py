"""The entries of the index: what is kept of each record, so that lists and statistics read no file."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, bindparam, delete, select, tuple_, update

from nofx_grpc.analysis.actions import Kind, dump_actions, load_actions
from nofx_grpc.decisions.names import cycle_of
from nofx_grpc.decisions.records import Facts
from nofx_grpc.store.bulk import insert_rows
from nofx_grpc.store.decisions.tables import decision_bodies, decision_logs, decisions


class Entry(NamedTuple):
    """One record as the index has it."""

    id: str
    time_ns: int
    cycle_number: int
    success: bool
    size_bytes: int
    mtime_ns: int
    total_balance: float
    unrealized_profit: float
    trades: str | None
    serial: int = 0

    def says_the_same(self, other: "Entry") -> bool:
        """Whether two are alike but for the time of the file, and when they came."""
        return self._replace(mtime_ns=0, serial=0) == other._replace(mtime_ns=0, serial=0)


class Counts(NamedTuple):
    """What some records add to the counts of their log."""

    total_cycles: int
    successful_cycles: int
    opens: int
    closes: int
    partial_closes: int
    size_bytes: int


class Key(NamedTuple):
    """The place of a record in its list."""

    time_ns: int
    id: str


class Span(NamedTuple):
    """Records from `start` to `end`, both included, in nanoseconds since 1970."""

    start: int = 0
    end: int = 2**63 - 1


_COLUMNS = [decisions.c[name] for name in Entry._fields]
_OF_LOG = decisions.c.log_id == bindparam("log_id")
_ORDER = (decisions.c.time_ns, decisions.c.id)
_AT = tuple_(*_ORDER)
_PLACE = tuple_(bindparam("time_ns"), bindparam("id"))
_SPAN = (decisions.c.time_ns >= bindparam("start"), decisions.c.time_ns <= bindparam("end"))
_GET = select(*_COLUMNS).where(_OF_LOG, decisions.c.id == bindparam("id"))
_OF_ID = select(decision_logs.c.folder, *_COLUMNS).where(
    decision_logs.c.id == decisions.c.log_id,
    decisions.c.id == bindparam("id"),
    ~select(decision_bodies.c.id)
    .where(decision_bodies.c.log_id == decisions.c.log_id, decision_bodies.c.id == decisions.c.id)
    .exists(),
)
_NEWEST = (
    select(*_COLUMNS)
    .where(_OF_LOG, *_SPAN, _AT < _PLACE)
    .order_by(decisions.c.time_ns.desc(), decisions.c.id.desc())
    .limit(bindparam("limit"))
)
_OLDEST = select(*_COLUMNS).where(_OF_LOG, _AT > _PLACE).order_by(*_ORDER).limit(bindparam("limit"))
_ARRIVED = (
    select(*_COLUMNS)
    .where(_OF_LOG, decisions.c.serial > bindparam("serial"))
    .order_by(decisions.c.serial)
    .limit(bindparam("limit"))
)
_STAMPS = (
    select(decisions.c.id, decisions.c.size_bytes, decisions.c.mtime_ns)
    .where(_OF_LOG, decisions.c.id > bindparam("after"), decisions.c.id <= bindparam("upto"))
    .order_by(decisions.c.id)
    .limit(bindparam("limit"))
)
_SOME = select(*_COLUMNS).where(_OF_LOG, decisions.c.id.in_(bindparam("ids", expanding=True)))
_DELETE = delete(decisions).where(_OF_LOG, decisions.c.id.in_(bindparam("ids", expanding=True)))
_NOTE_TIME = (
    update(decisions)
    .where(decisions.c.log_id == bindparam("of_log"), decisions.c.id == bindparam("of_id"))
    .values(mtime_ns=bindparam("now"))
)
BEFORE_ALL = Key(-1, "")
AFTER_ALL = Key(2**63 - 1, "\U0010ffff")


def entry_of(id: str, facts: Facts, *, size: int, mtime_ns: int = 0) -> Entry:
    """The entry of a record."""
    return Entry(
        id=id,
        time_ns=facts.time_ns,
        cycle_number=facts.cycle_number or cycle_of(id),
        success=facts.success,
        size_bytes=size,
        mtime_ns=mtime_ns,
        total_balance=facts.total_balance,
        unrealized_profit=facts.unrealized_profit,
        trades=dump_actions(facts.actions) if facts.actions else None,
    )


def counts_of(entries: Iterable[Entry]) -> Counts:
    """What records add to the counts of their log."""
    total = successful = size = 0
    kinds = dict.fromkeys(Kind, 0)
    for entry in entries:
        total += 1
        successful += entry.success
        size += entry.size_bytes
        for action in load_actions(entry.trades) if entry.trades else ():
            kinds[action.meaning.kind] += 1
    return Counts(total, successful, kinds[Kind.OPEN], kinds[Kind.CLOSE], kinds[Kind.PARTIAL_CLOSE], size)


def insert(connection: Connection, log_id: int, entries: Sequence[Entry], *, after: int) -> None:
    """Put entries into the index, with the serials that follow `after`."""
    rows = [{"log_id": log_id} | entry._asdict() | {"serial": after + n} for n, entry in enumerate(entries, 1)]
    insert_rows(connection, decisions, rows)


def note_times(connection: Connection, log_id: int, entries: Sequence[Entry]) -> None:
    """Write down when the files of records were changed last."""
    rows = [{"of_log": log_id, "of_id": entry.id, "now": entry.mtime_ns} for entry in entries]
    connection.execute(_NOTE_TIME, rows)


def delete_some(connection: Connection, log_id: int, ids: Sequence[str]) -> list[Entry]:
    """Take entries out of the index, and return those that there were."""
    found = some(connection, log_id, ids)
    connection.execute(_DELETE, {"log_id": log_id, "ids": list(ids)})
    return found


def some(connection: Connection, log_id: int, ids: Sequence[str]) -> list[Entry]:
    """The entries of these records, in no order."""
    return _entries(connection, _SOME, {"log_id": log_id, "ids": list(ids)})


def get(connection: Connection, log_id: int, id: str) -> Entry | None:
    """The entry of a record."""
    found = connection.execute(_GET, {"log_id": log_id, "id": id}).one_or_none()
    return None if found is None else Entry(*found)


def without_body(connection: Connection, id: str) -> list[tuple[str, Entry]]:
    """Records of this id, in any log, whose bodies do not wait in the database, with the folder of each."""
    return [(row[0], Entry(*row[1:])) for row in connection.execute(_OF_ID, {"id": id})]


def newest(connection: Connection, log_id: int, span: Span, before: Key, limit: int) -> list[Entry]:
    """Entries, the newest first, from the one that comes after `before` in this order."""
    return _entries(connection, _NEWEST, {"log_id": log_id, "limit": limit} | span._asdict() | before._asdict())


def oldest(connection: Connection, log_id: int, after: Key, limit: int) -> list[Entry]:
    """Entries, the oldest first, from the one that comes after `after`."""
    return _entries(connection, _OLDEST, {"log_id": log_id, "limit": limit} | after._asdict())


def arrived(connection: Connection, log_id: int, serial: int, limit: int) -> list[Entry]:
    """Entries that came after the one of a serial, in the order in which they came."""
    return _entries(connection, _ARRIVED, {"log_id": log_id, "serial": serial, "limit": limit})


def stamps(connection: Connection, log_id: int, after: str, upto: str, limit: int) -> list[tuple[str, int, int]]:
    """Records from after one id up to another, by id, with the size of their files and the time of their change."""
    values = {"log_id": log_id, "after": after, "upto": upto, "limit": limit}
    return [(row.id, row.size_bytes, row.mtime_ns) for row in connection.execute(_STAMPS, values)]


def _entries(connection: Connection, statement: Select[Any], values: Mapping[str, object]) -> list[Entry]:
    return [Entry(*row) for row in connection.execute(statement, values)]
