"""The live feed of changes: one follower of the change log for all streams of this process.

A wake-up, by a write of this process or by what the engine tells of others', is only a hint; the poll is the truth.
Each commit is read once and handed to every stream that wants it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress

import structlog

from nofx_grpc.errors import HistoryChanged, RevisionCompacted, ShuttingDown
from nofx_grpc.services.subscriptions import Bell, Delivery, FeedOptions, Reached, Subscription, Wanted
from nofx_grpc.store import changes
from nofx_grpc.store.changes import Commit
from nofx_grpc.store.engine import Database

logger = structlog.get_logger(__name__)

PAGE = 500  # changes that are read at one time
HOLD_SECONDS = 15 * 60.0  # how long a stream may keep changes from being compacted


class Feed:
    """Follows the change log while there are streams.  Used on one event loop."""

    def __init__(self, db: Database, options: FeedOptions | None = None) -> None:
        self._db, self.options = db, options or FeedOptions()
        self._position, self._history = 0, ""
        self._places: dict[Wanted, set[Subscription | Bell]] = {}
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._held: dict[object, tuple[int, float]] = {}
        db.on_commit = self._woken.set

    async def follow(self, after: int, history_id: str, wanted: Wanted) -> AsyncGenerator[Delivery | Reached, None]:
        """What is wanted of the commits after a revision of a history, in order, without end.

        `Reached` comes when all that was committed when it began has been delivered, and then in quiet times.
        Raises RevisionCompacted, HistoryChanged, and SlowReader.
        """
        position, subscription = after, None
        while subscription is None:
            page = (await self._db.scan(changes.after, position, PAGE)).value
            check_history(history_id, page.history_id)
            for commit in page.commits:
                if (delivery := select(commit, wanted)) is not None:
                    yield delivery
            position = page.revision
            self._check_history(history_id)
            if page.complete:
                subscription = self._subscribe(position, wanted)
        try:
            yield Reached(position)
            while True:
                yield await subscription.next()
        finally:
            self._leave(subscription)

    @contextmanager
    def bell(self, history_id: str, wanted: Wanted) -> Iterator[Bell]:
        """A bell that rings for every wanted commit from the feed's place on, which is the store's revision or less.

        Raises HistoryChanged if the store is in another history by now.
        """
        self._check_history(history_id)
        bell = Bell(self._position if self._running else self._db.revision, wanted)
        self._enter(bell, bell.reached)
        try:
            yield bell
        finally:
            self._leave(bell)

    @contextmanager
    def holding(self, revision: int) -> Iterator[None]:
        """Keep the changes after this revision from being compacted by this process, for a quarter of an hour at most.

        A client that reads no faster than that must not make the log grow for ever.
        """
        key = object()
        self._held[key] = revision, time.monotonic() + HOLD_SECONDS
        try:
            yield
        finally:
            del self._held[key]

    @property
    def readers(self) -> int:
        """How many streams the feed is followed for."""
        return sum(map(len, self._places.values()))

    @property
    def held(self) -> int | None:
        """The oldest revision that somebody here holds."""
        now = time.monotonic()
        return min((revision for revision, until in self._held.values() if until > now), default=None)

    @property
    def _running(self) -> bool:
        return self._task is not None and not self._task.done()

    def _subscribe(self, after: int, wanted: Wanted) -> Subscription | None:
        """A place in the feed after a revision; None if the feed has passed it."""
        if self._running and after < self._position:
            return None
        subscription = Subscription(after, wanted, self.options)
        self._enter(subscription, after)
        return subscription

    def _enter(self, place: Subscription | Bell, position: int) -> None:
        self._places.setdefault(place.wanted, set()).add(place)
        if not self._running:
            self._position, self._history = position, self._db.history_id
            self._task = asyncio.create_task(self._run(), name="nofx-feed")

    def _leave(self, place: Subscription | Bell) -> None:
        same = self._places[place.wanted]
        same.discard(place)
        if not same:
            del self._places[place.wanted]
            self._woken.set()

    async def _run(self) -> None:
        listening = asyncio.create_task(self._db.listen(self._hear), name="nofx-feed-listen")
        try:
            await self._follow_log()
        finally:
            listening.cancel()

    def _hear(self, revision: int) -> None:
        """There was a commit with this revision, or (0) perhaps some."""
        if not revision or revision > self._position:
            self._woken.set()

    async def _follow_log(self) -> None:
        failing = False
        while self._places:
            try:
                await self._catch_up()
                failing = False
            except ShuttingDown:
                return
            except RevisionCompacted as error:
                self._pass_over(error)
            except Exception:
                if not failing:  # said once, not at every poll
                    logger.exception("feed_failed", position=self._position)
                failing = True
            with suppress(TimeoutError):
                async with asyncio.timeout(self.options.poll_seconds):
                    await self._woken.wait()
            self._woken.clear()

    async def _catch_up(self) -> None:
        latest = await self._db.latest()
        if self._db.history_id != self._history:
            self._begin_anew(latest)
        complete = self._position >= latest
        while not complete:
            page = (await self._db.scan(changes.after, self._position, PAGE)).value
            if page.history_id != self._history:  # since it was asked for: look at once where that one stands
                self._woken.set()
                return
            for commit in page.commits:
                self._publish(commit)
            self._position, complete = page.revision, page.complete
            for same in self._places.values():
                for place in same:
                    place.reach(page.revision)

    def _publish(self, commit: Commit) -> None:
        for wanted, same in self._places.items():
            if (delivery := select(commit, wanted)) is not None:
                for place in same:
                    place.put(delivery)

    def _check_history(self, history_id: str) -> None:
        current = self._history if self._running else self._db.history_id
        check_history(history_id, current)

    def _begin_anew(self, latest: int) -> None:
        """End all streams: what comes now does not follow what they were told."""
        error = HistoryChanged(self._history, self._db.history_id)
        for same in self._places.values():
            for place in same:
                place.fail(error)
        self._position, self._history = latest, self._db.history_id

    def _pass_over(self, error: RevisionCompacted) -> None:
        """End the streams that need what the log does not tell any more, and go on with what it does."""
        for same in self._places.values():
            for place in same:
                if place.reached < error.oldest:
                    place.fail(error)
        self._position = error.oldest


def check_history(wanted: str, current: str) -> None:
    """Raises HistoryChanged if the commits at hand do not follow what a stream was told."""
    if wanted != current:
        raise HistoryChanged(wanted, current)


def select(commit: Commit, wanted: Wanted) -> Delivery | None:
    """What is wanted of a commit; None if nothing is."""
    chosen = tuple(filter(wanted, commit.changes))
    return Delivery(commit._replace(changes=chosen)) if chosen else None
