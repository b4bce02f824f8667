"""What is done once a minute, off the way of requests: what has expired goes, which tokens were used is noted.

What concerns the store as a whole is done by one process at a time; when that one ends or dies, another takes over.
Two at once, as where one was stopped in the middle for long, would do no harm: they would do the same work twice.
"""

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from nofx_grpc.rpc.identity import Tokens
from nofx_grpc.rpc.refusals import Refusals
from nofx_grpc.services.decision_keeping import DecisionKeeping
from nofx_grpc.services.decision_pruning import Retention, retain
from nofx_grpc.services.feed import Feed
from nofx_grpc.store import (
    accounts,
    audit,
    changes,
    known_callers,
    login_tokens,
    login_tries,
    processes,
    request_ids,
    tokens,
)
from nofx_grpc.store.engine import Database
from nofx_grpc.store.live_keys import LiveKeys

logger = structlog.get_logger(__name__)

PERIOD_SECONDS = 60.0
SETTLE_SECONDS = 1.0
LAST_FILES_SECONDS = 3.0
# Each batch is a write of its own, so that those who wait to write wait for one batch at most.
AT_ONCE = 200
REGISTRATIONS_AT_ONCE = 20
MOST_LOGIN_TRIES = 100_000
MOST_KNOWN_CALLERS = 250_000


@dataclass(frozen=True, slots=True)
class Keeping:
    """How long the answers to repeated requests are kept; how long changes are, and how many of them at most."""

    request_ids: timedelta
    changes: timedelta
    most_changes: int


@dataclass(frozen=True, slots=True)
class Housekeeping:
    """Cleans up after the calls."""

    db: Database
    feed: Feed
    tokens: Tokens
    clock: Callable[[], datetime]
    keeping: Keeping
    keys: LiveKeys
    decisions: DecisionKeeping
    retention: Retention
    refusals: Refusals
    process: str = field(default_factory=lambda: str(uuid.uuid4()))

    async def run(self) -> None:
        """Sweep about once a minute, until cancelled.  What fails is logged, and tried again the next time."""
        while True:
            # Jittered, so that several processes on one database do not sweep at the same time.
            await asyncio.sleep(PERIOD_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311  # no secret hangs on it
            await self.sweep()

    async def settle(self) -> None:
        """See to what a process that was killed left of decision records; then, about once a second, until cancelled,
        to the files of those that were appended since.
        """
        await self._try("staged_decisions", self.decisions.home.tidy())
        while True:
            await asyncio.sleep(SETTLE_SECONDS)
            await self._try("appended_decisions", self._settled())

    async def _settled(self) -> int:
        await self.decisions.home.settle()
        return 0

    async def sweep(self) -> None:
        """Do all of it once: what is this process's own, and the rest if it is the one that does it."""
        await self.note_used_tokens()
        await self._try("refusals", self._record_left_out())
        self.keys.forget_retired()
        await self._try("staged_decisions", self.decisions.home.tidy())
        await self._try("history", self._looked_at_history())
        if not await self._write("processes", processes.check_in, self.process, self.feed.held):
            return
        now = self.clock()
        await self._repeat("request_ids", AT_ONCE, request_ids.forget_before, now - self.keeping.request_ids, AT_ONCE)
        await self._repeat("login_tokens", AT_ONCE, login_tokens.forget_before, now, AT_ONCE)
        await self._repeat("login_tries", AT_ONCE, login_tries.forget_before, now, AT_ONCE)
        await self._repeat("login_tries", AT_ONCE, login_tries.trim, MOST_LOGIN_TRIES, AT_ONCE)
        await self._repeat("known_callers", AT_ONCE, known_callers.forget_before, now, AT_ONCE)
        await self._repeat("known_callers", AT_ONCE, known_callers.trim, MOST_KNOWN_CALLERS, AT_ONCE)
        await self._repeat("registrations", REGISTRATIONS_AT_ONCE, accounts.remove_expired, REGISTRATIONS_AT_ONCE)
        await self.compact()
        await self._try("decisions", retain(self.decisions, self.retention))

    async def end(self) -> None:
        """Do what is left at the end of the process; files that a slow disk leaves are for the next start."""
        await self.note_used_tokens()
        await self._try("refusals", self._record_left_out())
        await self._write("processes", processes.check_out, self.process)
        try:
            async with asyncio.timeout(LAST_FILES_SECONDS):
                await self._try("appended_decisions", self._settled())
        except TimeoutError:
            logger.warning("decision_files_left", reason="the disk is slow: the next start gives them their names")

    async def compact(self) -> None:
        """Forget the changes that nobody can ask for any more, but none that a stream needs."""
        before = self.clock() - self.keeping.changes
        done = AT_ONCE
        while done:
            last = await self._removable(before)
            done = await self._write("change_log", changes.compact, last, AT_ONCE) if last else 0

    async def _removable(self, before: datetime) -> int:
        """The revision up to which changes may go; 0 if none may, or if it cannot be told."""
        try:
            last = (await self.db.scan(changes.removable, before, self.keeping.most_changes, AT_ONCE)).value
            elsewhere = (await self.db.read(processes.oldest_held, self.process)).value
        except Exception:
            logger.exception("housekeeping_failed", what="change_log")
            return 0
        return min([last, *(held for held in (self.feed.held, elsewhere) if held is not None)])

    async def _looked_at_history(self) -> int:
        """Notice that another process has begun a new history, where nobody reads who would."""
        await self.db.latest()
        return 0

    async def note_used_tokens(self) -> None:
        """Write down when the tokens were used last."""
        for ids in _chunks(sorted(self.tokens.take_used()), AT_ONCE):
            await self._write("used_tokens", tokens.mark_used, ids, self.clock())

    async def _record_left_out(self) -> int:
        """Put the number of the refusals on record that had no record of their own."""
        count = 0
        for record in self.refusals.left_out():
            logger.warning("refusals_left_out", principal=record.principal, last=record.method, number=record.resources)
            await self.db.append(audit.append, record)
            count += 1
        return count

    async def _repeat(self, what: str, limit: int, fn: Callable[..., int], *args: object) -> None:
        """Run `fn` until it finds less to do than its limit."""
        while await self._write(what, fn, *args) >= limit:
            pass

    async def _write(self, what: str, fn: Callable[..., int], *args: object) -> int:
        """The number of rows that `fn` was done with; 0 if it failed."""

        async def write() -> int:
            return (await self.db.write(fn, *args)).value

        return await self._try(what, write())

    async def _try(self, what: str, work: Awaitable[int]) -> int:
        """What was done; 0 if it failed."""
        try:
            done = await work
        except Exception:
            logger.exception("housekeeping_failed", what=what)
            return 0
        if done:
            logger.debug("housekeeping", what=what, rows=done)
        return done


def _chunks(items: list[str], size: int) -> Iterator[list[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))
