"""The live feed of changes: one follower of the change log for all streams of this process.

A wake-up by a write of this process is only a hint; the poll is the truth, and finds what other processes wrote.
Each commit is read once and handed to every stream that wants it; a stream has a queue of its own, and one that is not
emptied in time ends that stream only.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import structlog

from nofx_grpc.errors import RevisionCompacted, SlowReader
from nofx_grpc.store import changes
from nofx_grpc.store.changes import Change, Commit
from nofx_grpc.store.engine import Database

logger = structlog.get_logger(__name__)

PAGE = 500  # changes that are read at one time


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
        self.encoded: list[bytes] | None = None


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
        self._error: Exception | None = None
        self._woken = asyncio.Event()
        self._reached = after

    def put(self, delivery: Delivery) -> None:
        if delivery.commit.revision <= self._reached or self._slow:
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
        self._reached = max(self._reached, revision)

    def fail(self, error: Exception) -> None:
        self._error = error
        self._woken.set()

    async def next(self) -> Delivery | Reached:
        """The next delivery; after a while without one, how far the feed has come.

        Raises SlowReader if deliveries were lost because they were not taken in time.
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
        self.after = self._reached
        return Reached(self.after)


class Feed:
    """Follows the change log while there are streams.  Used on one event loop."""

    def __init__(self, db: Database, options: FeedOptions | None = None) -> None:
        self._db, self.options = db, options or FeedOptions()
        self._position = 0
        self._subscriptions: dict[Wanted, set[Subscription]] = {}
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._held: dict[object, int] = {}
        db.on_commit = self._woken.set

    async def follow(self, after: int, wanted: Wanted) -> AsyncGenerator[Delivery | Reached, None]:
        """What is wanted of the commits after a revision, in order, without end.

        `Reached` comes when all that was committed when it began has been delivered, and then in quiet times.
        Raises RevisionCompacted, and SlowReader.
        """
        position, subscription = after, None
        while subscription is None:
            page = (await self._db.scan(changes.after, position, PAGE)).value
            for commit in page.commits:
                if (delivery := select(commit, wanted)) is not None:
                    yield delivery
            position = page.revision
            if page.complete:
                subscription = self._subscribe(position, wanted)
        try:
            yield Reached(position)
            while True:
                yield await subscription.next()
        finally:
            self._unsubscribe(subscription)

    @contextmanager
    def holding(self, revision: int) -> Iterator[None]:
        """Keep the changes after this revision from being compacted by this process."""
        key = object()
        self._held[key] = revision
        try:
            yield
        finally:
            del self._held[key]

    @property
    def readers(self) -> int:
        """How many streams the feed is followed for."""
        return sum(map(len, self._subscriptions.values()))

    @property
    def held(self) -> int | None:
        """The oldest revision that somebody here holds."""
        return min(self._held.values(), default=None)

    def _subscribe(self, after: int, wanted: Wanted) -> Subscription | None:
        """A place in the feed after a revision; None if the feed has passed it."""
        running = self._task is not None and not self._task.done()
        if running and after < self._position:
            return None
        subscription = Subscription(after, wanted, self.options)
        self._subscriptions.setdefault(wanted, set()).add(subscription)
        if not running:
            self._position = after
            self._task = asyncio.create_task(self._run(), name="nofx-feed")
        return subscription

    def _unsubscribe(self, subscription: Subscription) -> None:
        same = self._subscriptions[subscription.wanted]
        same.discard(subscription)
        if not same:
            del self._subscriptions[subscription.wanted]
            self._woken.set()

    async def _run(self) -> None:
        failing = False
        while self._subscriptions:
            try:
                await self._catch_up()
                failing = False
            except RevisionCompacted as error:
                self._fail(error)
            except Exception:
                if not failing:  # said once, not at every poll
                    logger.exception("feed_failed", position=self._position)
                failing = True
            with suppress(TimeoutError):
                async with asyncio.timeout(self.options.poll_seconds):
                    await self._woken.wait()
            self._woken.clear()

    async def _catch_up(self) -> None:
        while self._position < await self._db.latest():
            page = (await self._db.scan(changes.after, self._position, PAGE)).value
            for commit in page.commits:
                self._publish(commit)
            self._position = page.revision
            for same in self._subscriptions.values():
                for subscription in same:
                    subscription.reach(page.revision)

    def _publish(self, commit: Commit) -> None:
        for wanted, same in self._subscriptions.items():
            if (delivery := select(commit, wanted)) is not None:
                for subscription in same:
                    subscription.put(delivery)

    def _fail(self, error: Exception) -> None:
        for same in self._subscriptions.values():
            for subscription in same:
                subscription.fail(error)


def select(commit: Commit, wanted: Wanted) -> Delivery | None:
    """What is wanted of a commit; None if nothing is."""
    chosen = tuple(filter(wanted, commit.changes))
    return Delivery(commit._replace(changes=chosen)) if chosen else None
