"""The log of changes as those who follow it read it: in order, from any revision that it still holds."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, select, tuple_, update

from nofx_grpc.errors import RevisionCompacted
from nofx_grpc.store import revisions
from nofx_grpc.store.revisions import change_log, store_state


class Change(NamedTuple):
    """One change; `resource` is the public record as JSON, '' for a delete."""

    kind: str
    user_id: str
    id: str
    operation: str
    resource: str


class Commit(NamedTuple):
    """All changes of one revision."""

    revision: int
    at: datetime
    changes: tuple[Change, ...]


class Page(NamedTuple):
    """Some commits, the revision up to which they are all that there is, whether that is the store's, and which history
    they belong to.
    """

    commits: list[Commit]
    revision: int
    complete: bool
    history_id: str


_COLUMNS = (
    change_log.c.revision,
    change_log.c.created_at,
    change_log.c.kind,
    change_log.c.user_id,
    change_log.c.id,
    change_log.c.operation,
    change_log.c.resource,
)
_AFTER = (
    select(*_COLUMNS)
    .where(change_log.c.revision > bindparam("after"))
    .order_by(change_log.c.revision, change_log.c.ordinal)
    .limit(bindparam("limit"))
)
_REST = (
    select(*_COLUMNS)
    .where(change_log.c.revision == bindparam("revision"))
    .order_by(change_log.c.ordinal)
    .offset(bindparam("known"))
)
_NTH_NEWEST = (
    select(change_log.c.revision)
    .order_by(change_log.c.revision.desc(), change_log.c.ordinal.desc())
    .offset(bindparam("most"))
    .limit(1)
)
_OLDEST = (
    select(change_log.c.revision, change_log.c.created_at)
    .order_by(change_log.c.revision, change_log.c.ordinal)
    .limit(bindparam("limit"))
)
_OLDEST_UP_TO = (
    select(change_log.c.revision, change_log.c.ordinal)
    .where(change_log.c.revision <= bindparam("last"))
    .order_by(change_log.c.revision, change_log.c.ordinal)
    .limit(bindparam("limit"))
)
_DELETE = delete(change_log).where(tuple_(change_log.c.revision, change_log.c.ordinal).in_(_OLDEST_UP_TO))
_COMPACTED = (
    update(store_state)
    .where(store_state.c.compacted_revision < bindparam("last"))
    .values(compacted_revision=bindparam("last"))
)


def after(connection: Connection, revision: int, limit: int) -> Page:
    """The commits after a revision, about `limit` changes of them; a commit is never cut.

    Raises RevisionCompacted if the log no longer tells of all of them.
    """
    state = revisions.read_state(connection)
    if revision < state.compacted_revision:
        raise RevisionCompacted(revision, state.compacted_revision)
    rows = connection.execute(_AFTER, {"after": revision, "limit": limit}).all()
    if len(rows) < limit:
        return Page(list(_commits(rows)), state.revision, complete=True, history_id=state.history_id)
    last = rows[-1].revision
    known = sum(1 for row in rows if row.revision == last)
    rows = [*rows, *connection.execute(_REST, {"revision": last, "known": known})]
    return Page(list(_commits(rows)), last, complete=last == state.revision, history_id=state.history_id)


def check_start(connection: Connection, revision: int) -> revisions.State:
    """Where the store stands.  Raises RevisionCompacted if the log does not tell of all changes after the revision."""
    state = revisions.read_state(connection)
    if revision < state.compacted_revision:
        raise RevisionCompacted(revision, state.compacted_revision)
    return state


def removable(connection: Connection, before: datetime, most: int, limit: int) -> int:
    """The revision up to which the log need not be kept, as far as its `limit` oldest rows tell; 0 if all are needed.

    Not needed is what is older than `before`, and what is not among the `most` newest rows.
    """
    state = revisions.read_state(connection)
    too_many = connection.execute(_NTH_NEWEST, {"most": most}).scalar_one_or_none() or 0
    known = max(too_many, state.compacted_revision)
    oldest = connection.execute(_OLDEST, {"limit": limit}).all()
    return max((row.revision for row in oldest if row.revision <= known or row.created_at < before), default=0)


def compact(connection: Connection, last: int, limit: int) -> int:
    """Forget the changes up to a revision; at most `limit` rows are deleted now, and their number returned.

    Whoever reads the log from before `last` is refused from now on, so that a commit whose rows go in several batches
    is never seen in part.
    """
    connection.execute(_COMPACTED, {"last": last})
    return connection.execute(_DELETE, {"last": last, "limit": limit}).rowcount


def _commits(rows: Sequence[tuple[int, datetime, str, str, str, str, str]]) -> Iterator[Commit]:
    for revision, group in groupby(rows, key=lambda row: row[0]):
        changes = list(group)
        yield Commit(revision, changes[0][1], tuple(Change(*row[2:]) for row in changes))
