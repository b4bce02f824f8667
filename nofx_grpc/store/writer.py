"""The group-commit writer: one thread that runs many callers' functions in one transaction, each in a savepoint.

Nobody is answered before COMMIT.  An error in one savepoint fails only its caller.  When the transaction itself is
gone (disk full, I/O error, lost connection: the savepoints are gone too) each function is run once more, alone.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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

_COMPANY_SECONDS = 0.001

logger = structlog.get_logger(__name__)


@dataclass(slots=True)
class Job:
    """One caller's write function, and how it came out."""

    run: Callable[[Connection], Any]
    savepoint: bool  # False for a function that runs no SQL
    future: asyncio.Future[tuple[Any, int]]
    outcome: tuple[Any, int] | None = None
    error: Exception | None = None
    scope: revisions.Scope | None = None  # what it did, if it ended well

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
        self._seen = 0  # the revision of the running transaction
        self._batch = revisions.Batch()
        self.revision = 0  # the last committed revision that this process knows of

    def start(self) -> None:
        self._connection = self._backend.open_writer()
        self.revision = revisions.read_state(self._connection).revision
        self._thread.start()

    def submit(self, run: Callable[[Connection], Any], *, savepoint: bool = True) -> asyncio.Future[tuple[Any, int]]:
        """Queue a write function.  The future holds its result and the revision that it is part of.

        One that runs no SQL, but only defers rows, needs no savepoint.
        """
        if self._stopped:
            raise ShuttingDown
        future: asyncio.Future[tuple[Any, int]] = asyncio.get_running_loop().create_future()
        self._queue.put(Job(run, savepoint, future))
        return future

    async def stop(self) -> None:
        """Finish what is queued, checkpoint and close.  May be called again, and without `start()`."""
        self._stopped = True
        self._queue.put(None)
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)

    def _loop(self) -> None:
        crowded = False
        while (job := self._queue.get()) is not None:
            if crowded:
                self._wait_for_company()
            batch = [job]
            self._run_batch(batch)
            crowded = len(batch) > 1
            with suppress(RuntimeError):  # the event loop is closed: nobody waits any more
                job.future.get_loop().call_soon_threadsafe(_deliver, batch)
        try:
            self._backend.checkpoint(self._connection)
        except Exception as error:  # noqa: BLE001  # all is committed: the next start does what this one could not
            logger.warning("checkpoint_failed", error=_text(error))
        self._connection.close()

    def _wait_for_company(self) -> None:
        """Wait as long as more callers come, up to the time of a batch.

        One commit for all of them costs each less than a commit of its own.
        """
        until, waiting = time.monotonic() + self._batch_seconds, -1
        while waiting < self._queue.qsize() < self._batch_size and time.monotonic() < until:
            waiting = self._queue.qsize()
            time.sleep(_COMPANY_SECONDS)

    def _run_batch(self, batch: list[Job]) -> None:
        """Run as many queued functions as fit into one transaction; `batch` has the first, and grows by the others."""
        try:
            with self._locked():
                self._begin()
                self._transaction(batch)
        except Exception as error:  # noqa: BLE001  # a thread that ends would leave all later callers without an answer
            self._refuse(batch, error)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if not self._backend.write_lock.acquire(self._lock_timeout):
            raise StoreUnavailable("the database is locked by another process")
        try:
            yield
        finally:
            self._backend.write_lock.release()

    def _begin(self) -> None:
        """Begin a transaction, on a new connection if the old one is lost."""
        try:
            self._connection.exec_driver_sql(self._backend.begin_write)
        except Exception:
            if not self._backend.is_lost(self._connection):
                raise
            self._connection.close()
            self._connection = self._backend.open_writer()
            self._connection.exec_driver_sql(self._backend.begin_write)
        self._seen = revisions.read_state(self._connection).revision
        self._batch = revisions.Batch()

    def _refuse(self, batch: list[Job], error: Exception) -> None:
        """No transaction can be begun: all who wait are told so at once, instead of waiting one after the other."""
        while (job := self._next()) is not None:
            batch.append(job)
        logger.warning("write_refused", jobs=len(batch), error=_text(error))
        _fail(batch, self._public(error))

    def _transaction(self, batch: list[Job]) -> None:
        """Run jobs until the batch is full, then commit; the transaction has begun."""
        try:
            for job in self._gather(batch):
                self._savepoint(job)
            self._commit(batch)
        except Exception as error:  # noqa: BLE001  # nobody may be left without an answer
            logger.warning("batch_rolled_back", jobs=len(batch), error=_text(error))
            self._recover(batch, error)
        else:
            self.revision = self._seen

    def _commit(self, batch: list[Job]) -> None:
        done = (job.scope for job in batch if job.scope is not None)
        revisions.finish(self._connection, self._batch, done)
        self._connection.exec_driver_sql("COMMIT")

    def _gather(self, batch: list[Job]) -> Iterator[Job]:
        """The first job, then those that wait behind it, as long as there is room and time."""
        started = time.monotonic()
        yield batch[0]
        while len(batch) < self._batch_size and time.monotonic() - started <= self._batch_seconds:
            job = self._next()
            if job is None:
                return
            batch.append(job)
            yield job

    def _next(self) -> Job | None:
        """The next job, if one waits."""
        try:
            job = self._queue.get_nowait()
        except Empty:
            return None
        if job is None:
            self._queue.put(None)  # the stop mark: for the loop, once this batch is done
        return job

    def _savepoint(self, job: Job) -> None:
        """Run one job.  Raises TransactionLost if its error took the whole transaction with it."""
        if job.abandoned:
            return
        before = self._batch.revision, self._batch.stored
        if job.savepoint:
            self._on_driver("SAVEPOINT job")
        try:
            scope = revisions.open_scope(self._connection, self._clock(), self._batch)
            value = job.run(self._connection)
        except BaseException as error:  # handed to the caller; a SystemExit is no reason to end this thread
            if not self._backend.in_transaction(self._connection):
                raise TransactionLost from error
            if job.savepoint:
                self._on_driver("ROLLBACK TO SAVEPOINT job")
            self._batch.revision, self._batch.stored = before
            job.error = self._public(error)
        else:
            job.scope = scope
            self._seen = scope.revision or self._seen
            job.outcome = value, self._seen
        if job.savepoint:
            self._on_driver("RELEASE SAVEPOINT job")

    def _recover(self, batch: list[Job], error: Exception) -> None:
        """Run each job of a batch that did not commit once more, alone; what fails again gets its own error."""
        for job in batch:
            job.outcome = job.error = job.scope = None
        self._rollback()
        if isinstance(error, DBAPIError) and self._backend.commit_is_uncertain(error):
            _fail(batch, StoreUnavailable("the connection was lost; the write may have taken effect"))
            return
        for position, job in enumerate(batch):
            try:
                self._begin()
            except Exception as failure:  # noqa: BLE001  # handed to the callers
                _fail(batch[position:], self._public(failure))
                return
            self._alone(job)

    def _alone(self, job: Job) -> None:
        """Run one job in the transaction that has begun for it."""
        try:
            self._savepoint(job)
            self._commit([job])
        except Exception as error:  # noqa: BLE001  # handed to the caller
            self._rollback()
            cause = (isinstance(error, TransactionLost) and error.__cause__) or error
            job.outcome, job.error = None, self._public(cause)
        else:
            self.revision = self._seen

    def _rollback(self) -> None:
        """Roll back what is left of the transaction."""
        if self._backend.in_transaction(self._connection):
            try:
                self._connection.exec_driver_sql("ROLLBACK")
            except DBAPIError as error:
                logger.warning("rollback_failed", error=_text(error))

    def _public(self, error: BaseException) -> Exception:
        """The error that the caller sees: for an error of the database, what it means for a client."""
        if (explained := self._backend.explain(error)) is not None:
            return explained
        if isinstance(error, Exception) and not isinstance(error, StopIteration):
            return error
        # A future takes no StopIteration, and what is no Exception would end the event loop.
        return RuntimeError(f"a write function raised {type(error).__name__}")

    def _on_driver(self, sql: str) -> None:
        """Run a savepoint statement on the driver: through Core it would cost ten times as much."""
        self._connection.connection.cursor().execute(sql)


def _fail(batch: list[Job], error: Exception) -> None:
    """Give an error to each job that has no answer yet."""
    for job in batch:
        if job.outcome is None and job.error is None:
            job.error = error


def _deliver(batch: list[Job]) -> None:
    for job in batch:
        job.deliver()


def _text(error: BaseException) -> str:
    """The driver's words only: SQLAlchemy's text would carry the statement's parameters."""
    cause = error.__cause__ if isinstance(error, TransactionLost) else error
    return f"{type(cause).__name__}: {cause.orig}" if isinstance(cause, DBAPIError) else type(error).__name__
