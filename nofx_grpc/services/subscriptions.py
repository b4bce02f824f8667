"""The places of streams in the live feed: what was handed to each, and what waits to be.

A place has a queue of its own, bounded in commits and in bytes; one that is not emptied in time ends its stream only.
"""

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from nofx_grpc.errors import OutOfRange, RevisionCompacted, SlowReader
from nofx_grpc.store.changes import Change, Commit


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """How often the log is looked at, and how far behind a stream's client may be, in commits and in bytes."""

    poll_seconds: float = 0.2
    queue_commits: int = 1000
    queue_bytes: int = 8 * 1024 * 1024
    bookmark_seconds: float = 10.0


class Wanted(Protocol):
    """Which changes a stream wants.  Equal ones want the same."""

    def __call__(self, change: Change) -> bool: ...
    def __hash__(self) -> int: ...


class Delivery:
    """The changes of one commit that a stream wants.  Streams that want the same share it, and its encoded form."""

    __slots__ = ("commit", "encoded", "size")

    def __init__(self, commit: Commit) -> None:
        self.commit = commit
        self.size = sum(len(change.resource) + len(change.id) + 100 for change in commit.changes)
        self.encoded: asyncio.Future[list[bytes]] | None = None


class Reached(NamedTuple):
    """Everything up to this revision has been delivered."""

    revision: int


class Subscription:
    """One stream's place in the feed: what was delivered to it, and what waits to be."""

    def __init__(self, after: int, wanted: Wanted, options: FeedOptions) -> None:
        self.after, self.wanted = after, wanted  # `after`: the last revision taken from the queue
        self._options = options
        self._queue: deque[Delivery] = deque()
        self._bytes = 0
        self._slow = False
        self._error: OutOfRange | None = None
        self._woken = asyncio.Event()
        self.reached = after

    def put(self, delivery: Delivery) -> None:
        if delivery.commit.revision <= self.reached or self._slow or self._error is not None:
            return
        self._queue.append(delivery)
        self._bytes += delivery.size
        if len(self._queue) > self._options.queue_commits or (
            len(self._queue) > 1 and self._bytes > self._options.queue_bytes
        ):
            self._slow = True
            self._queue.clear()
        self._woken.set()

    def reach(self, revision: int) -> None:
        """Everything up to this revision has been put."""
        if self._error is None:
            self.reached = max(self.reached, revision)

    def fail(self, error: OutOfRange) -> None:
        """Take no more: what follows is not what comes next."""
        self._error = error
        self._woken.set()

    async def next(self) -> Delivery | Reached:
        """The next delivery; after a while without one, how far the feed has come.

        Raises SlowReader if deliveries were lost because they were not taken in time; after the last delivery,
        RevisionCompacted if the log no longer tells what comes next, HistoryChanged if nothing does.
        """
        if not self._queue and not self._slow:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._options.bookmark_seconds):
                    await self._woken.wait()
        self._woken.clear()
        if self._slow:
            raise SlowReader(self.after)
        if self._queue:
            delivery = self._queue.popleft()
            self._bytes -= delivery.size
            self.after = delivery.commit.revision
            return delivery
        if self._error is not None:
            raise self._error
        self.after = self.reached
        return Reached(self.after)


class Bell:
    """One stream's place in the feed that keeps no deliveries: only between which revisions there was something."""

    def __init__(self, after: int, wanted: Wanted) -> None:
        self.wanted = wanted
        self.first = self.last = 0
        self.reached = after
        self._woken = asyncio.Event()
        self._error: OutOfRange | None = None

    def put(self, delivery: Delivery) -> None:
        self.first = self.first or delivery.commit.revision
        self.last = delivery.commit.revision
        self._woken.set()

    def reach(self, revision: int) -> None:
        self.reached = max(self.reached, revision)

    def fail(self, error: OutOfRange) -> None:
        """There may have been something: whether it is too late to read of it, the stream finds out by itself.

        After the end of a history there is nothing to read of.
        """
        if isinstance(error, RevisionCompacted):
            self.first, self.last = self.first or self.reached + 1, error.oldest
        else:
            self._error = error
        self._woken.set()

    async def next(self, position: int, timeout: float) -> tuple[bool, int]:
        """Wait for something after a revision, up to which all is known; for as long as a stream may be quiet.

        Tells whether there is something, and the revision up to which there is nothing.  Raises HistoryChanged.
        """
        if self.last <= position and self._error is None:
            self._clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._woken.wait()
        if self._error is not None:
            raise self._error
        rung, nothing = bool(self.last), self.first - 1 if self.first else self.reached
        self._clear()
        return rung, max(position, nothing)

    def _clear(self) -> None:
        self.first = self.last = 0
        self._woken.clear()
