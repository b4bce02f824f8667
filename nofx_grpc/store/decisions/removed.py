"""Which records were taken out of the index while their files may be there still, or be on their way.

Whoever prunes may be killed before the files are gone, or may not be able to delete them; and an append may give its
file a name after another server has pruned the record.  What is written down here does not come back by such a file:
`index.add` leaves it out.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, select

from nofx_grpc.store import revisions
from nofx_grpc.store.bulk import insert_rows
from nofx_grpc.store.decisions.tables import decision_logs, removed_decisions


class Place(NamedTuple):
    """A log and its folder."""

    log_id: int
    folder: str


_IDS = select(removed_decisions.c.id)
_OF_LOG = removed_decisions.c.log_id == bindparam("log_id")
_THESE = removed_decisions.c.id.in_(bindparam("ids", expanding=True))
_OLD = removed_decisions.c.removed_at <= bindparam("before")
_AMONG = _IDS.where(_OF_LOG, _THESE)
_PAGE = _IDS.where(_OF_LOG, removed_decisions.c.id > bindparam("after")).order_by(removed_decisions.c.id)
_PAGE = _PAGE.limit(bindparam("limit"))
_PAGE_OF_OLD = _PAGE.where(_OLD)
_WITH_OLD = select(decision_logs.c.id, decision_logs.c.folder).where(
    decision_logs.c.id.in_(select(removed_decisions.c.log_id).where(_OLD))
)
_FORGET = delete(removed_decisions).where(_OF_LOG, _THESE)
_FORGET_OLD = _FORGET.where(_OLD)
_FORGET_ALL = delete(removed_decisions)


def note(connection: Connection, log_id: int, ids: Sequence[str]) -> None:
    """Write down that these records are removed, from now on."""
    forget(connection, log_id, ids)  # what a release that knows of no such notes has taken up again
    now = revisions.scope(connection).now
    insert_rows(connection, removed_decisions, [{"log_id": log_id, "id": id, "removed_at": now} for id in ids])


def among(connection: Connection, log_id: int, ids: Sequence[str]) -> set[str]:
    """Those of these records that are removed."""
    return set(connection.execute(_AMONG, {"log_id": log_id, "ids": list(ids)}).scalars())


def after(connection: Connection, log_id: int, id: str, limit: int) -> list[str]:
    """The removed records of a log in the order of their ids, from after one of them."""
    return list(connection.execute(_PAGE, {"log_id": log_id, "after": id, "limit": limit}).scalars())


def with_old(connection: Connection, before: datetime) -> list[Place]:
    """The logs that have records which were removed before a time."""
    return [Place(*row) for row in connection.execute(_WITH_OLD, {"before": before})]


def old(connection: Connection, log_id: int, before: datetime, after: str, limit: int) -> list[str]:
    """As `after`, of those that were removed before a time."""
    page = {"log_id": log_id, "before": before, "after": after, "limit": limit}
    return list(connection.execute(_PAGE_OF_OLD, page).scalars())


def forget(connection: Connection, log_id: int, ids: Sequence[str]) -> None:
    """Have these records come back if there are files of them."""
    connection.execute(_FORGET, {"log_id": log_id, "ids": list(ids)})


def forget_old(connection: Connection, log_id: int, ids: Sequence[str], before: datetime) -> None:
    """As `forget`, but for those that were removed anew meanwhile."""
    connection.execute(_FORGET_OLD, {"log_id": log_id, "ids": list(ids), "before": before})


def forget_all(connection: Connection) -> None:
    """As `forget`, for all records of all logs."""
    connection.execute(_FORGET_ALL)
