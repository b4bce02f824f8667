"""Changes of the index: each keeps the entries, the counts of their log, and what is no record, in step."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from nofx_grpc.decisions.names import SUFFIX
from nofx_grpc.errors import FailedPrecondition, NotFound
from nofx_grpc.store import revisions
from nofx_grpc.store.decisions import entries, logs, positions
from nofx_grpc.store.decisions.entries import Counts, Entry, counts_of
from nofx_grpc.store.decisions.logs import Log
from nofx_grpc.store.decisions.tables import decision_bodies, unreadable_decisions

KIND = "decision"


class Unreadable(NamedTuple):
    """A file that is no record, and why."""

    name: str
    size_bytes: int
    mtime_ns: int
    reason: str


class Appended(NamedTuple):
    """A record that was appended: the log as it was before, and the entry."""

    log: Log
    entry: Entry


_INSERT_BODY = insert(decision_bodies)
_BODIES = select(decision_bodies.c.id, decision_bodies.c.body).where(
    decision_bodies.c.log_id == bindparam("log_id"), decision_bodies.c.id.in_(bindparam("ids", expanding=True))
)
_DELETE_BODIES = delete(decision_bodies).where(
    decision_bodies.c.log_id == bindparam("log_id"), decision_bodies.c.id.in_(bindparam("ids", expanding=True))
)
_UNREADABLE_OF_LOG = unreadable_decisions.c.log_id == bindparam("log_id")
_UNREADABLE = (
    select(*(unreadable_decisions.c[name] for name in Unreadable._fields))
    .where(_UNREADABLE_OF_LOG)
    .order_by(unreadable_decisions.c.name)
    .limit(bindparam("limit"))
)
_COUNT_UNREADABLE = select(func.count()).select_from(unreadable_decisions).where(_UNREADABLE_OF_LOG)
_FORGET_UNREADABLE = delete(unreadable_decisions).where(
    _UNREADABLE_OF_LOG, unreadable_decisions.c.name.in_(bindparam("names", expanding=True))
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
    connection: Connection, user_id: str, trader_id: str, folder: str, last_cycle: int, entry: Entry, body: bytes | None
) -> Appended:
    """Append a record to the log of a user's trader, whose last cycle was `last_cycle`; `body` where it is kept here.

    Raises NotFound, FailedPrecondition as `check_owner`; Moved if the log has gone on meanwhile.
    """
    check_owner(logs.find(connection, trader_id), user_id, trader_id)
    log = logs.ensure(connection, trader_id, folder)
    if log.folder != folder:
        raise logs.Moved
    serial = logs.count_appended(connection, log._replace(last_cycle=last_cycle), entry)
    entries.insert(connection, log.id, [entry], after=serial - 1)
    positions.settle(connection, log.id, [entry])
    if body is not None:
        connection.execute(_INSERT_BODY, {"log_id": log.id, "id": entry.id, "body": body})
    revisions.touch(connection, KIND, log.user_id, f"{trader_id}/{entry.id}", revisions.Operation.CREATE)
    return Appended(log, entry)


def add(
    connection: Connection,
    trader_id: str,
    folder: str,
    new: Sequence[Entry],
    unreadable: Sequence[Unreadable] = (),
    bodies: Sequence[bytes] = (),
) -> int:
    """Put records that came from elsewhere into the index, those that are there already left out; how many were new.

    `bodies` are theirs, where they are kept here.
    """
    log = logs.ensure(connection, trader_id, folder)
    known = {entry.id for entry in entries.some(connection, log.id, [entry.id for entry in new])}
    added = [entry for entry in new if entry.id not in known]
    if added:
        serial = logs.count_added(connection, log, added)
        entries.insert(connection, log.id, added, after=serial)
        positions.settle(connection, log.id, added)
    kept = [
        {"log_id": log.id, "id": entry.id, "body": body}
        for entry, body in zip(new, bodies, strict=False)
        if entry.id not in known
    ]
    if kept:
        connection.execute(_INSERT_BODY, kept)
    forget = [entry.id + SUFFIX for entry in new] + [file.name for file in unreadable]
    connection.execute(_FORGET_UNREADABLE, {"log_id": log.id, "names": forget})
    if unreadable:
        connection.execute(_INSERT_UNREADABLE, [{"log_id": log.id} | file._asdict() for file in unreadable])
    return len(added)


def remove(connection: Connection, log_id: int, ids: Sequence[str]) -> Counts:
    """Take records out of the index, with the bodies that are kept here; what they counted."""
    connection.execute(_DELETE_BODIES, {"log_id": log_id, "ids": list(ids)})
    removed = entries.delete_some(connection, log_id, ids)
    positions.settle(connection, log_id, removed)
    counts = counts_of(removed)
    logs.count_removed(connection, log_id, counts)
    return counts


def clear(connection: Connection, log_id: int, ids: Sequence[str]) -> Counts:
    """As `remove`; a log that has no records left is nobody's then."""
    counts = remove(connection, log_id, ids)
    logs.disown(connection, log_id)
    return counts


def forget_unreadable(connection: Connection, log_id: int, names: Sequence[str]) -> None:
    """Forget files that are gone."""
    connection.execute(_FORGET_UNREADABLE, {"log_id": log_id, "names": list(names)})


def unreadable(connection: Connection, log_id: int, limit: int) -> tuple[int, list[Unreadable]]:
    """How many files are no records, and the first of them by name."""
    count = connection.execute(_COUNT_UNREADABLE, {"log_id": log_id}).scalar_one()
    if not count:
        return 0, []
    return count, [Unreadable(*row) for row in connection.execute(_UNREADABLE, {"log_id": log_id, "limit": limit})]


def bodies(connection: Connection, log_id: int, ids: Sequence[str]) -> dict[str, bytes]:
    """The bodies that are kept here, by id."""
    return {row.id: bytes(row.body) for row in connection.execute(_BODIES, {"log_id": log_id, "ids": list(ids)})}
