"""The store's one door: `read`, `scan` and `write` run plain functions that take a `Connection`."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar, cast

import structlog
from sqlalchemy import Connection

from nofx_grpc.store.audit_chain import Chain
from nofx_grpc.store.audit_heads import HeadKeeper
from nofx_grpc.store.backend import Backend
from nofx_grpc.store.live_keys import LiveKeys
from nofx_grpc.store.reads import Answer, Committed, HeldReads, ReadsOnTheLoop
from nofx_grpc.store.writer import GroupCommitWriter

__all__ = ["Answer", "Connection", "Database"]  # Connection: for services, which see nothing else of SQLAlchemy

logger = structlog.get_logger(__name__)

T = TypeVar("T")
P = ParamSpec("P")

_MOST_REMEMBERED = 1_000  # one with a long prompt takes 130 KiB


class _Remembered(NamedTuple):
    """What was read at one revision, sealed under the keys of one keyring: to seal anew takes no revision."""

    committed: Committed
    answers: dict[Any, Answer[Any]]


def _ignore(connection: Connection, at: Committed) -> None:
    """For a store in which nothing is sealed or opened."""


class Database:
    """A migrated and initialised store.

    Every function given to `read` and `scan` sees one snapshot.  Every function given to `write` takes effect whole or
    not at all, and is durable when its caller gets the answer.  All three raise what the function raises,
    StoreUnavailable when the database is locked, read-only or gone, and StoreFull when it has no room.
    """

    def __init__(
        self,
        backend: Backend,
        clock: Callable[[], datetime],
        chain: Chain,
        *,
        batch_size: int = 128,
        batch_seconds: float = 0.005,
        lock_timeout: float = 5.0,
        scan_threads: int = 2,
        keys: LiveKeys | None = None,
        heads: HeadKeeper | None = None,
    ) -> None:
        self._backend = backend
        self.audit_key, self.heads = chain.key, heads
        follow = _ignore if keys is None else keys.follow
        self._writer = GroupCommitWriter(
            backend,
            clock,
            chain,
            batch_size=batch_size,
            batch_seconds=batch_seconds,
            lock_timeout=lock_timeout,
            follow=_ignore if keys is None else keys.follow_newest,
            envelope=None if keys is None else keys.envelope,
        )
        self._scanners = ThreadPoolExecutor(scan_threads, thread_name_prefix="nofx-reader")
        self._held = HeldReads(backend, follow)
        self._bounded = backend.bounded_reads(follow) or ReadsOnTheLoop(self._held)
        self._remembered = _Remembered(Committed(-1, -1, ""), {})
        self.history_id = ""
        self._left: set[str] = set()  # histories that are over
        self.on_commit: Callable[[], None] | None = None  # called when a write of this process has made a revision

    def open(self) -> None:
        """Start the writer.  Raises DBAPIError if the database cannot be opened."""
        if self.heads is not None:
            connection = self._backend.open_reader()
            try:
                self.heads.start(connection)
            finally:
                connection.close()
        self.history_id = self._writer.start().history_id

    async def close(self) -> None:
        """Finish what is running and queued, checkpoint, and close every connection.  May be called again."""
        self._held.stop()
        await asyncio.to_thread(self._scanners.shutdown)
        await self._bounded.close()
        self._held.close()  # before the writer, so that its checkpoint finds no reader in its way
        await self._writer.stop()
        if self.heads is not None:
            await asyncio.to_thread(self.heads.stop)

    @property
    def revision(self) -> int:
        """The last revision that this process knows to be committed; never above the store's."""
        return self._writer.revision

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> Answer[T]:
        """Run a read that is bounded (a few rows by key) where it is cheapest, which is not in a thread."""
        return await self._bounded.snapshot(lambda connection: fn(connection, *args, **kwargs))

    async def get(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> Answer[T]:
        """As `read`, for what depends on the rows of resources only: remembered until the store's next revision, or
        the next change of its keyring.

        Not for what may change without one (tokens, password hashes).
        """
        key = fn, args, tuple(kwargs.items())
        committed = await self._committed()
        remembered = self._remembered
        if committed != remembered.committed:
            remembered = self._remembered = _Remembered(committed, {})
        answer = remembered.answers.get(key)
        if answer is None:
            answer = await self._bounded.snapshot(lambda connection: fn(connection, *args, **kwargs))
            if answer.revision == committed.revision and len(remembered.answers) < _MOST_REMEMBERED:
                remembered.answers[key] = answer
        return answer

    async def latest(self) -> int:
        """The store's revision now, whichever process made it: the cheapest read that there is."""
        return (await self._committed()).revision

    async def _committed(self) -> Committed:
        committed = await self._bounded.committed()
        self._note_history(committed.history_id)
        return committed

    def _note_history(self, now: str) -> None:
        """Another process, or the writer, may have begun a new one; what is told late of an older one says nothing."""
        if now != self.history_id and now not in self._left:
            logger.warning("history_changed", was=self.history_id, now=now)
            self._left.add(self.history_id)
            self.history_id = now

    async def listen(self, hear: Callable[[int], None]) -> None:
        """Call `hear` with the revision of each commit of any process, and with 0 where some may have been missed.

        Until cancelled; it returns at once where the engine tells nothing.  What is heard is only a hint.
        """
        if (listener := self._backend.listener()) is not None:
            await listener.run(hear)

    async def scan(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> Answer[T]:
        """Run a read of many rows in a reader thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._scanners, self._held.snapshot, lambda connection: fn(connection, *args, **kwargs)
        )

    async def append(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> None:
        """As `write`, for a function that runs no SQL and only defers rows (`revisions.defer`): the cheapest write.

        It is done even if its caller is cancelled meanwhile, for what it tells of has happened.
        """
        await asyncio.shield(self._writer.submit(lambda connection: fn(connection, *args, **kwargs), savepoint=False))

    async def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> Answer[T]:
        """Run a write function in its own savepoint of the next group commit."""
        before = self.revision
        value, revision = await self._writer.submit(lambda connection: fn(connection, *args, **kwargs))
        self._note_history(self._writer.began.history_id)
        if revision != before and self.on_commit is not None:
            self.on_commit()
        return Answer(cast("T", value), revision)
