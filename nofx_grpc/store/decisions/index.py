"""Changes of the index: each keeps the entries, the counts of their log, and what is no record, in step."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from nofx_grpc.decisions.names import SUFFIX, cycle_of
from nofx_grpc.errors import FailedPrecondition, NotFound
from nofx_grpc.store import revisions
from nofx_grpc.store.decisions import bodies, entries, logs, positions, removed
from nofx_grpc.store.decisions.entries import Counts, Entry, counts_of
from nofx_grpc.store.decisions.folders import Stamp
from nofx_grpc.store.decisions.logs import Log
from nofx_grpc.store.decisions.tables import unreadable_decisions

KIND = "decision"


class Unreadable(NamedTuple):
    """A file that is no record, and why."""

    name: str
    size_bytes: int
    mtime_ns: int
    reason: str

    @property
    def id(self) -> str:
        """The id that a record in it would have."""
        return self.name.removesuffix(SUFFIX)


class Appended(NamedTuple):
    """A record that was appended to a log; whether open positions after it are to be settled yet."""

    log: Log
    unsettled: bool


_UNREADABLE_OF_LOG = unreadable_decisions.c.log_id == bindparam("log_id")
_UNREADABLE = (
    select(*(unreadable_decisions.c[name] for name in Unreadable._fields))
    .where(_UNREADABLE_OF_LOG, unreadable_decisions.c.name > bindparam("after"))
    .order_by(unreadable_decisions.c.name)
    .limit(bindparam("limit"))
)
_UNREADABLE_AMONG = select(
    unreadable_decisions.c.name, unreadable_decisions.c.size_bytes, unreadable_decisions.c.mtime_ns
).where(_UNREADABLE_OF_LOG, unreadable_decisions.c.name.in_(bindparam("names", expanding=True)))
_COUNT_UNREADABLE = select(func.count()).select_from(unreadable_decisions).where(_UNREADABLE_OF_LOG)
_FORGET_UNREADABLE = delete(unreadable_decisions).where(
    _UNREADABLE_OF_LOG, unreadable_decisions.c.name.in_(bindparam("names", expanding=True))
)
_BROKEN = (
    select(unreadable_decisions.c.name)
    .where(_UNREADABLE_OF_LOG, unreadable_decisions.c.name.endswith(SUFFIX, autoescape=True))
    .limit(bindparam("limit"))
)
_INSERT_UNREADABLE = insert(unreadable_decisions)


def check_owner(found: logs.Owned, user_id: str, trader_id: str) -> None:
    """Raises unless this user may append to the log.

    NotFound if the trader is not this user's and its log is not either, FailedPrecondition if the trader is, but the
    log is of another user's.
    """
    if found.trader_user_id not in {None, user_id} or (found.trader_user_id is None and found.owner != user_id):
        raise NotFound("trader", trader_id)
    if found.owner != user_id:
        raise FailedPrecondition(
            f"the decision logs of the trader {trader_id!r} are another user's: "
            "give the trader another id, or delete it, prune everything of them, and create it anew"
        )


def append(
    connection: Connection, user_id: str, trader_id: str, folder: str, last_cycle: int, entry: Entry, body: bytes
) -> Appended:
    """Append a record to the log of a user's trader, whose last cycle was `last_cycle`; `body` is to be kept of it.

    Raises NotFound, FailedPrecondition as `check_owner`; Moved if the log has gone on meanwhile.
    """
    found = logs.find(connection, trader_id)
    check_owner(found, user_id, trader_id)
    log = logs.ensure(connection, trader_id, folder, found)
    if log.folder != folder:
        raise logs.Moved
    serial = logs.count_appended(connection, log._replace(last_cycle=last_cycle), entry)
    entries.insert(connection, log.id, [entry], after=serial - 1)
    unsettled = positions.settle(connection, log.id, [entry])
    bodies.keep(connection, log.id, [(entry.id, body)])
    revisions.touch(connection, KIND, log.user_id, f"{trader_id}/{entry.id}", revisions.Operation.CREATE)
    return Appended(log, unsettled)


def add(
    connection: Connection,
    trader_id: str,
    folder: str,
    new: Sequence[Entry],
    unreadable: Sequence[Unreadable] = (),
    kept: Sequence[bytes] = (),
) -> int:
    """Put records that came from elsewhere into the index, those that are there already left out; how many were new.

    Files of records that were removed are left out, too, whatever is in them.  `kept` are the bodies, where this is
    their home: those that had theirs elsewhere before count as new, and those that were removed come back.
    """
    log = logs.ensure(connection, trader_id, folder, logs.find(connection, trader_id))
    if kept:
        removed.forget(connection, log.id, [entry.id for entry in new])
    else:
        gone = removed.among(connection, log.id, [*(entry.id for entry in new), *(file.id for file in unreadable)])
        new = [entry for entry in new if entry.id not in gone]
        unreadable = [file for file in unreadable if file.id not in gone]
    known = {entry.id for entry in entries.some(connection, log.id, [entry.id for entry in new])}
    added = [entry for entry in new if entry.id not in known]
    if added:
        serial = logs.count_added(connection, log, added)
        entries.insert(connection, log.id, added, after=serial)
        positions.settle(connection, log.id, added)
    # A number is taken by what is in a record and by what is in a name, be it that of a file which is none.
    ids = [entry.id for entry in added] + [file.id for file in unreadable]
    logs.use_up(connection, log.id, [*(entry.cycle_number for entry in added), *map(cycle_of, ids)])
    forget = [entry.id + SUFFIX for entry in new] + [file.name for file in unreadable]
    connection.execute(_FORGET_UNREADABLE, {"log_id": log.id, "names": forget})
    if unreadable:
        by_name = {file.name: file for file in unreadable}  # two may look alike once they are spelt as text
        connection.execute(_INSERT_UNREADABLE, [{"log_id": log.id} | file._asdict() for file in by_name.values()])
    return _keep(connection, log.id, new, kept) if kept else len(added)


def _keep(connection: Connection, log_id: int, new: Sequence[Entry], kept: Sequence[bytes]) -> int:
    """Keep the bodies that are not here yet; how many those are."""
    there = bodies.among(connection, log_id, [entry.id for entry in new])
    lacking = [(entry.id, body) for entry, body in zip(new, kept, strict=True) if entry.id not in there]
    bodies.keep(connection, log_id, lacking)
    return len(lacking)


def remove(connection: Connection, log_id: int, ids: Sequence[str]) -> Counts:
    """Take records out of the index, with the bodies that are kept here; what they counted."""
    bodies.forget(connection, log_id, ids)
    removed = entries.delete_some(connection, log_id, ids)
    positions.settle(connection, log_id, removed)
    counts = counts_of(removed)
    logs.count_removed(connection, log_id, counts)
    return counts


def forget_unreadable(connection: Connection, log_id: int, names: Sequence[str]) -> None:
    """Forget files that are gone."""
    connection.execute(_FORGET_UNREADABLE, {"log_id": log_id, "names": list(names)})


def take_broken(connection: Connection, log_id: int, limit: int) -> list[str]:
    """Forget files that are no records, but whose names end as those of records do; their names."""
    names = list(connection.execute(_BROKEN, {"log_id": log_id, "limit": limit}).scalars())
    forget_unreadable(connection, log_id, names)
    return names


def unreadable(connection: Connection, log_id: int, limit: int) -> tuple[int, list[Unreadable]]:
    """How many files are no records, and the first of them by name."""
    count = connection.execute(_COUNT_UNREADABLE, {"log_id": log_id}).scalar_one()
    if not count:
        return 0, []
    return count, unreadable_after(connection, log_id, "", limit)


def unreadable_after(connection: Connection, log_id: int, name: str, limit: int) -> list[Unreadable]:
    """Files that are no records, in the order of their names, from after one of them."""
    values = {"log_id": log_id, "after": name, "limit": limit}
    return [Unreadable(*row) for row in connection.execute(_UNREADABLE, values)]


def unreadable_among(connection: Connection, log_id: int, names: Sequence[str]) -> dict[str, Stamp]:
    """Those of these files that were no records, as they were then."""
    found = connection.execute(_UNREADABLE_AMONG, {"log_id": log_id, "names": list(names)})
    return {row.name: Stamp(row.size_bytes, row.mtime_ns) for row in found}
