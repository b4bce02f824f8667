"""Tries at logging in: counted for whom they are and from whom they come, so that guessing gets slower and slower.

A try counts before it is looked at, and what succeeds is given back: of many at the same moment, at whatever servers,
none slips through uncounted.  A row holds one time, when the last try is forgotten; how many are not forgotten yet
follows from it.  Whose row it is stands there as a hash, so that what strangers type in takes no room.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from sqlalchemy import Connection, Index, Table, bindparam, delete, func, select, text, update

from nofx_grpc.store import revisions
from nofx_grpc.store.metadata import UtcDateTime, key_column, metadata, time_column

_FIRST_WAIT = timedelta(seconds=1)
_NOT_BLOCKED = timedelta(0)
_DOUBLINGS = 12  # a row is forgotten some time, however many tries there are

login_tries = Table(
    "login_tries",
    metadata,
    key_column("id", primary_key=True),
    time_column("forgotten_at"),
    time_column("blocked_until", nullable=True),
    Index(None, "forgotten_at"),
)

# Of two servers that count the same row the second waits here, and sees what the first has made of it.
_TAKE = (
    text(
        "INSERT INTO login_tries (id, forgotten_at) VALUES (:id, :now)"
        " ON CONFLICT (id) DO UPDATE SET id = excluded.id RETURNING forgotten_at, blocked_until"
    )
    .bindparams(bindparam("now", type_=UtcDateTime()))
    .columns(forgotten_at=UtcDateTime(), blocked_until=UtcDateTime())
)
_SET = (
    update(login_tries)
    .where(login_tries.c.id == bindparam("key"))
    .values(forgotten_at=bindparam("forgotten"), blocked_until=bindparam("blocked"))
)
_DELETE = delete(login_tries).where(login_tries.c.id == bindparam("key"))
_FIRST = select(login_tries.c.id).order_by(login_tries.c.forgotten_at).limit(bindparam("limit"))
_DELETE_BEFORE = delete(login_tries).where(
    login_tries.c.id.in_(_FIRST.where(login_tries.c.forgotten_at <= bindparam("before")))
)
_DELETE_FIRST = delete(login_tries).where(login_tries.c.id.in_(_FIRST))
_COUNT = select(func.count()).select_from(login_tries)


@dataclass(frozen=True, slots=True)
class Counter:
    """What tries count against: `allowed` of them cost nothing; after each further one nothing is let through for twice
    as long as before, `longest` at most.  One is forgotten in each `forget`.
    """

    id: str
    allowed: int
    forget: timedelta
    longest: timedelta

    def wait_after(self, tries: float) -> timedelta:
        """How long nothing is let through after the last of so many tries."""
        over = min(int(tries) - self.allowed, _DOUBLINGS)
        return min(_FIRST_WAIT * 2 ** (over - 1), self.longest) if over > 0 else timedelta(0)


class Blocked(Exception):
    """No try is let through for `remaining`; none was counted."""

    def __init__(self, remaining: timedelta) -> None:
        super().__init__()
        self.remaining = remaining


def id_of(*parts: str) -> str:
    """The id of the row of somebody or something."""
    return sha256(json.dumps(parts).encode()).hexdigest()


def count(connection: Connection, counters: Iterable[Counter]) -> None:
    """Count a try against all of these, or against none.  Raises Blocked."""
    now = revisions.scope(connection).now
    # In one order, so that two servers do not wait for one another.
    rows = [(each, connection.execute(_TAKE, {"id": each.id, "now": now}).one()) for each in sorted(counters, key=_id)]
    if remaining := max((_remaining(each, row.blocked_until, now) for each, row in rows), default=_NOT_BLOCKED):
        raise Blocked(remaining)
    for counter, row in rows:
        most = now + (counter.allowed + _DOUBLINGS) * counter.forget
        forgotten = min(max(row.forgotten_at, now) + counter.forget, most)
        blocked = now + counter.wait_after(-(-(forgotten - now) // counter.forget))
        connection.execute(_SET, {"key": counter.id, "forgotten": forgotten, "blocked": blocked})


def _remaining(counter: Counter, blocked_until: datetime | None, now: datetime) -> timedelta:
    """How long nothing is let through yet.

    A wait beyond the longest is none: the clock was set back, and nobody is to be locked out until it has caught up.
    """
    remaining = (blocked_until or now) - now
    return remaining if _NOT_BLOCKED < remaining <= counter.longest else _NOT_BLOCKED


def give_back(connection: Connection, counters: Iterable[Counter]) -> None:
    """Take back one try of each of these."""
    now = revisions.scope(connection).now
    for counter in sorted(counters, key=_id):
        row = connection.execute(_TAKE, {"id": counter.id, "now": now}).one()
        connection.execute(_SET, {"key": counter.id, "forgotten": row.forgotten_at - counter.forget, "blocked": None})


def forgive(connection: Connection, counters: Iterable[Counter]) -> None:
    """Forget all tries of these."""
    for counter in sorted(counters, key=_id):
        connection.execute(_DELETE, {"key": counter.id})


def forget_before(connection: Connection, before: datetime, limit: int) -> int:
    """Delete at most `limit` rows that are forgotten at `before`, and tell how many that were."""
    return connection.execute(_DELETE_BEFORE, {"before": before, "limit": limit}).rowcount


def trim(connection: Connection, most: int, limit: int) -> int:
    """Delete at most `limit` of those rows that are more than `most`, which are forgotten first; how many that were."""
    over = connection.execute(_COUNT).scalar_one() - most
    return connection.execute(_DELETE_FIRST, {"limit": min(over, limit)}).rowcount if over > 0 else 0


def _id(counter: Counter) -> str:
    return counter.id
