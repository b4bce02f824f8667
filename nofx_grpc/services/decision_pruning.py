"""Pruning decision records: the oldest first, until what is left is within the limits; never the newest.

The index gives them up first, on the record; then their files go.  Where somebody is killed in between, or the files
cannot be deleted, they are deleted later, and nobody sees them meanwhile: a log becomes nobody's only once its files
are gone.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from nofx_grpc.decisions.times import SECOND, Moment
from nofx_grpc.errors import NofxError
from nofx_grpc.services.decision_keeping import DecisionKeeping
from nofx_grpc.store.decisions import logs, pruning
from nofx_grpc.store.decisions.logs import Log
from nofx_grpc.store.decisions.pruning import Limits, Pruned
from nofx_grpc.store.decisions.settling import settle_all

LOGS_AT_ONCE: Final = 200

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long records are kept, and how many records and bytes of each trader; None where there is no limit."""

    age: timedelta | None = None
    count: int | None = None
    size_bytes: int | None = None

    def limits(self, now: Moment) -> Limits:
        age = None if self.age is None else int(self.age.total_seconds() * SECOND)
        return Limits(None if age is None else now.ns - age, self.count, self.size_bytes)


async def prune(
    keeping: DecisionKeeping, log: Log, remove: Callable[[], Awaitable[Pruned]], *, everything: bool = False
) -> Pruned:
    """Delete what `remove` takes out of the index, part by part; a log of which everything went is nobody's then.

    `remove` is called at least once, so that a call leaves its audit record.  Raises StoreUnavailable for files that
    stay, be they of an earlier call: those are tried again.
    """
    pruned = Pruned()
    while True:
        part = await remove()
        await keeping.home.remove(log, part.ids)
        deleted = pruned.deleted_count + part.deleted_count, pruned.deleted_bytes + part.deleted_bytes
        pruned = Pruned(*deleted, part.remaining_count, part.remaining_bytes)
        if part.is_last:
            await keeping.home.finish_removing(log)
            await settle_all(keeping.db, log.trader_id)
            if everything:
                await keeping.db.write(logs.disown, log.id)
            return pruned


async def retain(keeping: DecisionKeeping, retention: Retention) -> int:
    """Delete what is beyond the retention, of every trader; how many records went.

    What cannot be done for one trader is logged, and keeps nobody from the others.
    """
    if retention == Retention():
        return 0
    limits, gone, after = retention.limits(keeping.now()), 0, ""
    while some := (await keeping.db.scan(logs.all_after, after, LOGS_AT_ONCE)).value:
        for log in some:
            try:
                gone += await _retain(keeping, log, limits)
            except NofxError as error:
                logger.warning("retention_failed", trader_id=log.trader_id, error=error.message)
        after = some[-1].trader_id
    return gone


async def _retain(keeping: DecisionKeeping, log: Log, limits: Limits) -> int:
    """Prune one log, which is brought up to date first: it is the newest file that stays."""
    await keeping.owned("", log.trader_id)

    async def remove() -> Pruned:
        return (await keeping.db.write(pruning.prune, log.trader_id, limits, in_files=keeping.home.in_files)).value

    if not (await keeping.db.scan(pruning.is_due, log.trader_id, limits)).value:
        return 0
    return (await prune(keeping, log, remove)).deleted_count
