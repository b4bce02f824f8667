"""Pruning decision records: the oldest first, until what is left is within the limits; never the newest."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from nofx_grpc.services.decision_keeping import DecisionKeeping
from nofx_grpc.store.decisions import entries
from nofx_grpc.store.decisions.entries import Entry
from nofx_grpc.store.decisions.logs import Log

AT_ONCE: Final = 500  # deleted in one transaction


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be left: records from `before_ns` on, so many, of so many bytes; None where there is no limit."""

    before_ns: int | None = None
    count: int | None = None
    size_bytes: int | None = None
    newest_too: bool = False


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
            return pruned
        after = entries.Key(oldest[-1].time_ns, oldest[-1].id)


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
