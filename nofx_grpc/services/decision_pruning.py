"""Pruning decision records: the oldest first, until what is left is within the limits; never the newest."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from nofx_grpc.decisions.times import SECOND, Moment
from nofx_grpc.errors import NofxError
from nofx_grpc.services.decision_keeping import DecisionKeeping
from nofx_grpc.store.decisions import entries, index, logs
from nofx_grpc.store.decisions.entries import Entry
from nofx_grpc.store.decisions.logs import Log
from nofx_grpc.store.decisions.settling import settle_all

AT_ONCE: Final = 500  # deleted in one transaction
LOGS_AT_ONCE: Final = 200

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be left: records from `before_ns` on, so many, of so many bytes; None where there is no limit."""

    before_ns: int | None = None
    count: int | None = None
    size_bytes: int | None = None
    newest_too: bool = False


@dataclass(frozen=True, slots=True)
class Retention:
    """How long records are kept, and how many records and bytes of each trader; None where there is no limit."""

    age: timedelta | None = None
    count: int | None = None
    size_bytes: int | None = None

    def limits(self, now: Moment) -> Limits:
        age = None if self.age is None else int(self.age.total_seconds() * SECOND)
        return Limits(None if age is None else now.ns - age, self.count, self.size_bytes)


@dataclass(slots=True)
class Pruned:
    """What was deleted, and what is left."""

    deleted_count: int
    deleted_bytes: int
    remaining_count: int
    remaining_bytes: int

    def take(self, entry: Entry) -> None:
        self.deleted_count += 1
        self.deleted_bytes += entry.size_bytes
        self.remaining_count -= 1
        self.remaining_bytes -= entry.size_bytes


async def prune(
    keeping: DecisionKeeping,
    log: Log,
    limits: Limits,
    remove: Callable[[Sequence[str]], Awaitable[object]] | None,
) -> Pruned:
    """Delete what is beyond the limits; `remove` takes entries out of the index, None only tells what would go.

    `remove` is called at least once, so that a call leaves its audit record.
    """
    pruned = Pruned(0, 0, log.total_cycles, log.size_bytes)
    after = entries.BEFORE_ALL
    while True:
        oldest = (await keeping.db.scan(entries.oldest, log.id, after, AT_ONCE)).value
        ids = []
        for entry in oldest:
            if not _goes(entry, limits, pruned):
                break
            pruned.take(entry)
            ids.append(entry.id)
        if remove is not None and (ids or not pruned.deleted_count):
            await keeping.home.remove(log, ids)
            await remove(ids)
        if len(ids) < AT_ONCE:
            await settle_all(keeping.db, log.trader_id)
            return pruned
        after = entries.Key(oldest[-1].time_ns, oldest[-1].id)


async def retain(keeping: DecisionKeeping, retention: Retention) -> int:
    """Delete what is beyond the retention, of every trader; how many records went.

    A trader whose records cannot be got at keeps them, and keeps no other trader's.
    """
    if retention == Retention():
        return 0
    limits, gone, after = retention.limits(keeping.now()), 0, ""
    while some := (await keeping.db.scan(logs.all_after, after, LOGS_AT_ONCE)).value:
        for log in some:
            try:
                gone += await _retain(keeping, log.trader_id, limits)
            except NofxError as error:
                logger.warning("retention_failed", trader_id=log.trader_id, error=error.message)
        after = some[-1].trader_id
    return gone


async def _retain(keeping: DecisionKeeping, trader_id: str, limits: Limits) -> int:
    log = (await keeping.home.refresh(trader_id, (await keeping.db.read(logs.find, trader_id)).value)).log
    oldest = (await keeping.db.scan(entries.oldest, log.id, entries.BEFORE_ALL, 1)).value if log else []
    if log is None or not oldest or not _goes(oldest[0], limits, Pruned(0, 0, log.total_cycles, log.size_bytes)):
        return 0
    log_id = log.id

    async def remove(ids: Sequence[str]) -> None:
        if ids:
            await keeping.db.write(index.remove, log_id, ids)

    return (await prune(keeping, log, limits, remove)).deleted_count


def _goes(entry: Entry, limits: Limits, left: Pruned) -> bool:
    if limits.newest_too:
        return True
    if left.remaining_count <= 1:
        return False
    return (
        (limits.before_ns is not None and entry.time_ns < limits.before_ns)
        or (limits.count is not None and left.remaining_count > limits.count)
        or (limits.size_bytes is not None and left.remaining_bytes > limits.size_bytes)
    )
