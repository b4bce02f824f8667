"""Bounded reads that do not block the event loop: on held asynchronous connections, as many as are needed at one time.

Held, because to check one out of SQLAlchemy's pool for each read costs as much as the read.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from psycopg import AsyncConnection as Driver
from psycopg import AsyncCursor
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from nofx_grpc.errors import ShuttingDown, StoreUnavailable
from nofx_grpc.store.reads import COMMITTED, Answer, Committed, Follow
from nofx_grpc.store.retry import retrying_async

if TYPE_CHECKING:  # each backend says how it is read
    from nofx_grpc.store.backend import Backend

T = TypeVar("T")


class Held(NamedTuple):
    """One connection: as Core sees it, and the driver's own."""

    core: AsyncConnection
    driver: Driver[Any]

    @property
    def status(self) -> TransactionStatus:
        return self.driver.info.transaction_status

    async def close(self) -> None:
        """Close it, without a word to the database: it may not hear."""
        self.driver.pgconn.finish()
        with suppress(Exception):  # it is given up: nothing that is wrong with it matters
            await self.core.invalidate()
            await self.core.close()


class PooledReads:
    """Reads on at most `size` connections; whoever finds all in use waits `wait_seconds` for one.

    They raise what the function raises, StoreUnavailable for what that means of the database's state, and ShuttingDown.
    """

    def __init__(
        self, backend: "Backend", engine: AsyncEngine, follow: Follow, *, size: int, wait_seconds: float
    ) -> None:
        self._backend, self._engine, self._follow = backend, engine, follow
        self._size, self._wait_seconds = size, wait_seconds
        self._slots = asyncio.Semaphore(size)
        self._idle: list[Held] = []
        self._closed = False
        self._asking = asyncio.Lock()
        self._next: asyncio.Task[Committed] | None = None  # the question that is not sent yet
        # Sent as one: each round trip to the server is time that the caller waits.
        self._begin = f"{backend.begin_read}; {COMMITTED}"

    async def snapshot(self, fn: Callable[[Connection], T]) -> Answer[T]:
        """Run `fn` in a snapshot."""

        async def in_one_snapshot(held: Held) -> Answer[T]:
            cursor = await held.driver.execute(self._begin)
            cursor.nextset()
            committed = await _only_row(cursor)

            def in_step(connection: Connection) -> T:
                self._follow(connection, committed)
                return fn(connection)

            return Answer(await held.core.run_sync(in_step), committed.revision)

        return await self._run(in_one_snapshot)

    async def committed(self) -> Committed:
        """How far the store is.  Those who ask at one time share an answer, to a question sent after all of theirs."""
        if self._next is None:
            self._next = asyncio.create_task(self._ask())
            self._next.add_done_callback(_look_at)
        return await asyncio.shield(self._next)  # one caller who goes away must not take the answer from the others

    async def _ask(self) -> Committed:
        async with self._asking:
            self._next = None  # whoever comes from now on may know of a commit that this question comes too early for
            return await self._run(_read_committed)

    async def close(self) -> None:
        """Close every connection; nothing can be read any more.  May be called again."""
        self._closed = True
        await self._close_idle()
        await self._engine.dispose()

    async def _run(self, work: Callable[[Held], Awaitable[T]]) -> T:
        try:
            return await retrying_async(lambda: self._try(work), self._backend.is_transient)
        except Exception as error:
            if (explained := self._backend.explain(error)) is not None:
                raise explained from error
            raise

    async def _try(self, work: Callable[[Held], Awaitable[T]]) -> T:
        if self._closed:
            raise ShuttingDown
        await self._wait_for_slot()
        try:
            held = self._idle.pop() if self._idle else await self._connect()
            try:
                return await work(held)
            finally:
                await self._give_back(held)
        finally:
            self._slots.release()

    async def _wait_for_slot(self) -> None:
        if not self._slots.locked():
            await self._slots.acquire()
            return
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise StoreUnavailable(f"all {self._size} connections to the database are in use") from None

    async def _connect(self) -> Held:
        core = await self._engine.connect()
        driver = (await core.get_raw_connection()).driver_connection
        if not isinstance(driver, Driver):
            raise TypeError(f"expected a psycopg connection, got {type(driver).__name__}")
        return Held(core, driver)

    async def _give_back(self, held: Held) -> None:
        """End the transaction and keep the connection, unless it is lost or in the middle of something."""
        try:
            if held.status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}:
                await held.driver.execute("COMMIT")
        finally:
            if held.status is TransactionStatus.IDLE and not self._closed:
                self._idle.append(held)
            else:
                await self._drop(held)

    async def _drop(self, held: Held) -> None:
        lost = held.driver.closed
        await held.close()
        if lost:  # the others were lost with it, most likely: to find out one after the other would take longer
            await self._close_idle()

    async def _close_idle(self) -> None:
        while self._idle:
            await self._idle.pop().close()


def _look_at(question: "asyncio.Task[Committed]") -> None:
    """Where everybody who asked has gone away, its error is nobody's."""
    if not question.cancelled():
        question.exception()


async def _read_committed(held: Held) -> Committed:
    return await _only_row(await held.driver.execute(COMMITTED))


async def _only_row(cursor: AsyncCursor[Any]) -> Committed:
    row = await cursor.fetchone()
    if row is None:
        raise LookupError("the store has no state")
    return Committed(*row)
