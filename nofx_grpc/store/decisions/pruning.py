"""Which records of a log are beyond its limits: chosen, and taken out of the index, in one transaction.

So two who prune at one time do not take more than either may, and the newest record stays whatever comes or goes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from sqlalchemy import Connection

from nofx_grpc.decisions.names import id_of_file
from nofx_grpc.store.decisions import entries, index, logs, positions, removed
from nofx_grpc.store.decisions.entries import AFTER_ALL, BEFORE_ALL, Entry, Key, Span

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

    deleted_count: int = 0
    deleted_bytes: int = 0
    remaining_count: int = 0
    remaining_bytes: int = 0
    ids: list[str] = field(default_factory=list)  # of the deleted, and of broken files, where it is no plan
    last: Key | None = None  # of them
    is_last: bool = True  # whether there is nothing more that is to go

    def take(self, entry: Entry) -> None:
        self.deleted_count += 1
        self.deleted_bytes += entry.size_bytes
        self.remaining_count -= 1
        self.remaining_bytes -= entry.size_bytes
        self.last = Key(entry.time_ns, entry.id)


def prune(connection: Connection, trader_id: str, limits: Limits, *, in_files: bool) -> Pruned:
    """Take the oldest records that are beyond the limits out of the index, as many as are deleted at one time.

    Where they are in files, none of those brings its record back.
    """
    chosen = _chosen(connection, trader_id, limits, AT_ONCE)
    if (log := logs.find(connection, trader_id).log) is not None:
        if chosen.last is not None:
            positions.keep_before(connection, log.id, chosen.last)
        index.remove(connection, log.id, chosen.ids)
        chosen.is_last = len(chosen.ids) < AT_ONCE
        if limits.newest_too and chosen.is_last:  # a broken file is no next owner's record once it is mended
            broken = index.take_broken(connection, log.id, AT_ONCE)
            chosen.is_last = len(broken) < AT_ONCE
            chosen.ids += [id for name in broken if (id := id_of_file(name)) is not None]
        if in_files:
            removed.note(connection, log.id, chosen.ids)
    return chosen


def plan(connection: Connection, trader_id: str, limits: Limits) -> Pruned:
    """What would go in all."""
    return _chosen(connection, trader_id, limits, None)


def is_due(connection: Connection, trader_id: str, limits: Limits) -> bool:
    """Whether there is anything to prune."""
    return bool(_chosen(connection, trader_id, limits, 1).ids)


def _chosen(connection: Connection, trader_id: str, limits: Limits, at_most: int | None) -> Pruned:
    """The oldest records that are beyond the limits, as of this transaction."""
    log = logs.find(connection, trader_id).log
    if log is None:
        return Pruned()
    newest = entries.newest(connection, log.id, Span(), AFTER_ALL, 1)
    pruned = Pruned(remaining_count=log.total_cycles, remaining_bytes=log.size_bytes)
    for entry in islice(_oldest(connection, log.id), at_most):
        if not limits.newest_too and (entry.id == newest[0].id or not _is_beyond(entry, limits, pruned)):
            break
        pruned.take(entry)
        if at_most is not None:  # a plan may be of millions
            pruned.ids.append(entry.id)
    return pruned


def _oldest(connection: Connection, log_id: int) -> Iterator[Entry]:
    """All records, the oldest first, of which few are in memory at one time."""
    after = BEFORE_ALL
    while some := entries.oldest(connection, log_id, after, AT_ONCE):
        yield from some
        after = Key(some[-1].time_ns, some[-1].id)


def _is_beyond(entry: Entry, limits: Limits, left: Pruned) -> bool:
    return (
        (limits.before_ns is not None and entry.time_ns < limits.before_ns)
        or (limits.count is not None and left.remaining_count > limits.count)
        or (limits.size_bytes is not None and left.remaining_bytes > limits.size_bytes)
    )
