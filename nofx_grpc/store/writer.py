"""The group-commit writer: one thread that runs many callers' functions in one transaction, each in a savepoint.

Nobody is answered before COMMIT.  An error in one savepoint fails only its caller.  When the transaction itself is
gone (disk full, I/O error, lost connection: the savepoints are gone too) each function is run once more, alone.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from nofx_grpc.crypto.envelope import Envelope
from nofx_grpc.errors import ShuttingDown, StoreFull, StoreUnavailable
from nofx_grpc.store import audit, jobs, revisions
from nofx_grpc.store.audit_chain import Chain
from nofx_grpc.store.backend import Backend, holding
from nofx_grpc.store.history import Position, begin, connect
from nofx_grpc.store.jobs import CommitUncertain, Job, Refused, TransactionLost
from nofx_grpc.store.reads import Committed, Follow, discard
from nofx_grpc.store.retry import retrying

_COMPANY_SECONDS = 0.001

logger = structlog.get_logger(__name__)


class GroupCommitWriter:
    """Runs write functions in batches.  `start()` once, then `submit()` from the event loop, then `stop()`."""

    def __init__(
        self,
        backend: Backend,
        clock: Callable[[], datetime],
        chain: Chain,
        *,
        batch_size: int,
        batch_seconds: float,
        lock_timeout: float,
        follow: Follow,
        envelope: Envelope | None,
    ) -> None:
        self._backend, self._clock, self._chain = backend, clock, chain
        self._follow, self._envelope = follow, envelope
        self._batch_size, self._batch_seconds, self._lock_timeout = batch_size, batch_seconds, lock_timeout
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name="nofx-writer", daemon=True)
        self._stopped = False
        self._seen, self.began = 0, Committed(0, 0, "")  # as of the last transaction, and of its beginning
        self._batch = revisions.Batch()
        self._claimed = False  # whether the running transaction keeps other writers waiting, and has the newest keys
        self.revision = 0  # the last committed revision that this process knows of

    def start(self) -> revisions.State:
        """Connect and start the thread; where the store stands."""
        self._connection, position = connect(self._backend)
        self._timeline = position.timeline
        state = revisions.read_state(self._connection)
        self.revision = state.revision
        self._thread.start()
        return state

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
                job.future.get_loop().call_soon_threadsafe(jobs.deliver, batch)
        try:
            self._backend.checkpoint(self._connection)
        except Exception as error:  # noqa: BLE001  # all is committed: the next start does what this one could not
            logger.warning("checkpoint_failed", error=jobs.text_of(error))
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
            with holding(self._backend.write_lock, self._lock_timeout):
                retrying(self._begin, self._may_run_again)
                self._transaction(batch)
        except Exception as error:  # noqa: BLE001  # a thread that ends would leave all later callers without an answer
            self._refuse(batch, error)

    def _begin(self) -> None:
        """Begin a transaction.  Raises Refused."""
        self._batch, self._claimed = revisions.Batch(), False
        try:
            position = self._begin_where_it_can()
        except Exception as error:
            raise Refused from error
        if position.timeline != self._timeline:
            self._chain.renew()  # what it goes on from may be lost
            self._timeline = position.timeline
        self.began, self._seen = position.committed, position.committed.revision
        self.revision = min(self.revision, self._seen)  # what a failover has lost is not committed any more

    def _begin_where_it_can(self) -> Position:
        """Begin on the connection, or on a new one if it is lost."""
        try:
            return begin(self._backend, self._connection)
        except Exception:
            if not self._backend.is_lost(self._connection):
                raise
            discard(self._connection)
            self._chain.renew()
            self._connection = self._backend.open_writer()
            return begin(self._backend, self._connection)

    def _claim(self) -> None:
        """Make the writers of other processes wait, where to begin does not, and seal as of now.  Raises Refused.

        Only then is what a function reads still so when it writes.  What is merely appended needs no such thing.
        """
        if self._claimed:
            return
        try:
            if self._backend.claim is not None:
                self.began = Committed(*self._on_driver(self._backend.claim).fetchone())
                self._seen = self.began.revision
            self._follow(self._connection, self.began)
        except Exception as error:
            if self._backend.is_transient(error):
                raise
            raise Refused from error
        self._claimed = True

    def _refuse(self, batch: list[Job], error: Exception) -> None:
        """No transaction can be begun: all who wait are told so at once, instead of waiting one after the other."""
        while (job := self._next()) is not None:
            batch.append(job)
        logger.warning("write_refused", jobs=len(batch), error=jobs.text_of(error))
        jobs.fail(batch, self._public(error))

    def _transaction(self, batch: list[Job]) -> None:
        """Run jobs until the batch is full, then commit; the transaction has begun."""
        try:
            for job in self._gather(batch):
                self._savepoint(job)
            self._commit(batch)
        except Exception as error:  # noqa: BLE001  # nobody may be left without an answer
            logger.warning("batch_rolled_back", jobs=len(batch), error=jobs.text_of(error))
            self._recover(batch, error)
        else:
            self.revision = self._seen

    def _commit(self, batch: list[Job]) -> None:
        """Raises CommitUncertain if nobody can tell whether it worked."""
        rows = revisions.deferred(job.scope for job in batch if job.scope is not None)
        records = self._chain.link(rows.pop(audit.audit_log, ()))
        revisions.finish(self._connection, self._batch, rows)
        audit.insert(self._connection, records, self._backend)
        try:
            self._connection.exec_driver_sql(self._backend.commit(self._batch.revision))
        except DBAPIError as error:
            if self._backend.commit_is_uncertain(error):
                self._chain.renew()
                raise CommitUncertain from error
            raise
        self._chain.committed()

    def _gather(self, batch: list[Job]) -> Iterator[Job]:
        """The first job, then those that wait behind it, as long as there is room and time."""
        started = time.monotonic()
        yield batch[0]
        while len(batch) < self._batch_size and time.monotonic() - started <= self._batch_seconds:
            if (job := self._next()) is None:
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
            self._claim()
            self._on_driver("SAVEPOINT job")
        try:
            scope = revisions.open_scope(self._connection, self._clock(), self._batch, self._envelope)
            value = job.run(self._connection)
        except BaseException as error:  # handed to the caller; a SystemExit is no reason to end this thread
            if self._backend.is_transient(error) or not self._backend.in_transaction(self._connection):
                raise TransactionLost from error
            if job.savepoint:
                self._on_driver("ROLLBACK TO SAVEPOINT job")
            self._batch.revision, self._batch.stored = before
            job.error = self._public(error)
            if isinstance(job.error, StoreFull | StoreUnavailable):  # which whoever runs the service must know of
                logger.warning("write_refused", jobs=1, error=jobs.text_of(error))
        else:
            job.scope = scope
            self._seen = scope.revision or self._seen
            job.outcome = value, self._seen
        if job.savepoint:
            self._on_driver("RELEASE SAVEPOINT job")

    def _recover(self, batch: list[Job], error: Exception) -> None:
        """Run each job of a batch that did not commit once more, alone; what fails again gets its own error.

        Where the database is gone all get that one, for each would wait as long to be told the same.
        """
        for job in batch:
            job.outcome = job.error = job.scope = None
        self._rollback()
        if isinstance(error, Refused):
            self._refuse(batch, error)
            return
        if isinstance(error, CommitUncertain):
            jobs.fail(batch, self._public(error))
            return
        for position, job in enumerate(batch):
            try:
                retrying(partial(self._alone, job), self._may_run_again)
            except Exception as failure:  # noqa: BLE001  # handed to the caller
                job.error = self._public(failure)
                gone = isinstance(failure, Refused) or self._backend.is_lost(self._connection)
                if gone and not isinstance(failure, CommitUncertain):
                    jobs.fail(batch[position:], job.error)
                    return

    def _alone(self, job: Job) -> None:
        """Run one job in a transaction of its own.  Raises what it raises where that took the transaction with it."""
        self._begin()
        try:
            self._savepoint(job)
            self._commit([job])
        except Exception:
            self._rollback()
            job.outcome = job.error = job.scope = None
            raise
        self.revision = self._seen

    def _may_run_again(self, error: Exception) -> bool:
        return not isinstance(error, CommitUncertain) and self._backend.is_transient(jobs.cause_of(error))

    def _rollback(self) -> None:
        """Roll back what is left of the transaction."""
        if self._backend.in_transaction(self._connection):
            try:
                self._connection.exec_driver_sql("ROLLBACK")
            except DBAPIError as error:
                logger.warning("rollback_failed", error=jobs.text_of(error))

    def _public(self, error: BaseException) -> Exception:
        return jobs.public(error, self._backend.explain)

    def _on_driver(self, sql: str) -> Any:
        """Run a statement on the driver, and return its cursor: through Core it would cost ten times as much."""
        return self._connection.connection.cursor().execute(sql)
