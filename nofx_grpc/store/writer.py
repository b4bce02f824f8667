"""The group-commit writer: one thread that runs many callers' functions in one transaction, each in a savepoint.

Nobody is answered before COMMIT.  An error in one savepoint fails only its caller.  When the transaction itself is
gone (disk full, I/O error, lost connection: the savepoints are gone too) each function is run once more, alone.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from queue import Empty, SimpleQueue
from typing import Any

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from nofx_grpc.errors import ShuttingDown, StoreUnavailable
from nofx_grpc.store import revisions
from nofx_grpc.store.backend import Backend

logger = structlog.get_logger(__name__)


@dataclass(slots=True)
class Job:
    """One caller's write function, and how it came out."""

    run: Callable[[Connection], Any]
    future: asyncio.Future[tuple[Any, int]]
    outcome: tuple[Any, int] | None = None
    error: BaseException | None = None

    @property
    def abandoned(self) -> bool:
        return self.future.cancelled()

    def deliver(self) -> None:
        """Answer the caller.  Runs on the event loop."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        elif self.outcome is not None:
            self.future.set_result(self.outcome)
        else:
            self.future.cancel()


class TransactionLost(Exception):
    """The transaction that holds the whole batch is gone."""


class GroupCommitWriter:
    """Runs write functions in batches.  `start()` once, then `submit()` from the event loop, then `stop()`."""

    def __init__(
        self,
        backend: Backend,
        clock: Callable[[], datetime],
        *,
        batch_size: int,
        batch_seconds: float,
        lock_timeout: float,
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._batch_size = batch_size
        self._batch_seconds = batch_seconds
        self._lock_timeout = lock_timeout
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name="nofx-writer", daemon=True)
        self._stopped = False
        self.revision = 0  # the last committed revision that this process knows of

    def start(self) -> None:
        self._connection = self._backend.open_writer()
        self.revision = revisions.read_state(self._connection).revision
        self._thread.start()

    def submit(self, run: Callable[[Connection], Any]) -> asyncio.Future[tuple[Any, int]]:
        """Queue a write function.  The future holds its result and the revision that it is part of."""
        if self._stopped:
            raise ShuttingDown
        future: asyncio.Future[tuple[Any, int]] = asyncio.get_running_loop().create_future()
        self._queue.put(Job(run, future))
        return future

    async def stop(self) -> None:
        """Finish what is queued, checkpoint and close."""
        self._stopped = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _loop(self) -> None:
        while (job := self._queue.get()) is not None:
            batch = self._run_batch(job)
            batch[0].future.get_loop().call_soon_threadsafe(_deliver, batch)
        self._backend.checkpoint(self._connection)
        self._connection.close()

    def _run_batch(self, first: Job) -> list[Job]:
        """Run as many queued functions as fit into one transaction.  Never raises."""
        if not self._backend.write_lock.acquire(self._lock_timeout):
            return self._refuse(first, StoreUnavailable("the database is locked by another process"))
        try:
            try:
                self._connection.exec_driver_sql(self._backend.begin_write)
            except DBAPIError as error:
                self._reconnect_if_lost()
                return self._refuse(first, self._public(error))
            return self._transaction(first)
        finally:
            self._backend.write_lock.release()

    def _refuse(self, first: Job, error: BaseException) -> list[Job]:
        """No transaction can be begun: all who wait are told so at once, instead of waiting one after the other."""
        batch, job = [first], self._next([], time.monotonic())
        while job is not None:
            batch.append(job)
            job = self._next([], time.monotonic())
        for job in batch:
            job.error = error
        logger.warning("write_refused", jobs=len(batch), error=_text(error))
        return batch

    def _transaction(self, first: Job) -> list[Job]:
        """Run jobs until the batch is full, then commit; the transaction has begun."""
        batch: list[Job] = []
        started = time.monotonic()
        job: Job | None = first
        try:
            while job is not None:
                batch.append(job)
                self._savepoint(job)
                job = self._next(batch, started)
            self._connection.exec_driver_sql("COMMIT")
        except Exception as error:  # noqa: BLE001  # nobody may be left without an answer
            logger.warning("batch_rolled_back", jobs=len(batch), error=_text(error))
            self._recover(batch, error)
        else:
            self.revision = max([self.revision, *(job.outcome[1] for job in batch if job.outcome)])
        return batch

    def _next(self, batch: list[Job], started: float) -> Job | None:
        if len(batch) >= self._batch_size or time.monotonic() - started > self._batch_seconds:
            return None
        try:
            job = self._queue.get_nowait()
        except Empty:
            return None
        if job is None:
            self._queue.put(None)  # the stop mark: for the loop, once this batch is done
            return None
        return job

    def _savepoint(self, job: Job) -> None:
        """Run one job.  Raises TransactionLost if its error took the whole transaction with it."""
        if job.abandoned:
            return
        job.outcome = job.error = None
        self._on_driver("SAVEPOINT job")
        try:
            scope = revisions.open_scope(self._connection, self._clock())
            value = job.run(self._connection)
        except Exception as error:
            if not self._backend.in_transaction(self._connection):
                raise TransactionLost from error
            self._on_driver("ROLLBACK TO SAVEPOINT job")
            job.error = self._public(error)
        else:
            job.outcome = value, scope.revision or self.revision
        self._on_driver("RELEASE SAVEPOINT job")

    def _recover(self, batch: list[Job], error: Exception) -> None:
        """Run each job of a batch that did not commit once more, alone; what fails again gets its own error."""
        self._abandon_transaction()
        uncertain = isinstance(error, DBAPIError) and self._backend.commit_is_uncertain(error)
        for job in batch:
            if uncertain:
                job.outcome, job.error = (
                    None,
                    StoreUnavailable("the connection was lost; the write may have taken effect"),
                )
            elif not job.abandoned:
                self._alone(job)

    def _alone(self, job: Job) -> None:
        try:
            self._connection.exec_driver_sql(self._backend.begin_write)
            self._savepoint(job)
            self._connection.exec_driver_sql("COMMIT")
        except Exception as error:  # noqa: BLE001  # handed to the caller
            self._abandon_transaction()
            cause = error.__cause__ if isinstance(error, TransactionLost) else error
            job.outcome, job.error = None, self._public(cause or error)
        else:
            self.revision = max(self.revision, job.outcome[1] if job.outcome else 0)

    def _abandon_transaction(self) -> None:
        """Roll back what is left of the transaction."""
        if self._backend.in_transaction(self._connection):
            try:
                self._connection.exec_driver_sql("ROLLBACK")
            except DBAPIError as error:
                logger.warning("rollback_failed", error=_text(error))
        self._reconnect_if_lost()

    def _reconnect_if_lost(self) -> None:
        """Take a new connection if this one cannot be used any more."""
        if self._connection.invalidated or self._connection.closed:
            self._connection.close()
            self._connection = self._backend.open_writer()

    def _public(self, error: BaseException) -> BaseException:
        """The error that the caller sees for an error of the database."""
        return (isinstance(error, DBAPIError) and self._backend.explain(error)) or error

    def _on_driver(self, sql: str) -> None:
        """Run a savepoint statement on the driver: through Core it would cost ten times as much."""
        self._connection.connection.cursor().execute(sql)


def _deliver(batch: list[Job]) -> None:
    for job in batch:
        job.deliver()


def _text(error: BaseException) -> str:
    """The driver's words only: SQLAlchemy's text would carry the statement's parameters."""
    cause = error.__cause__ if isinstance(error, TransactionLost) else error
    return f"{type(cause).__name__}: {cause.orig}" if isinstance(cause, DBAPIError) else type(error).__name__
