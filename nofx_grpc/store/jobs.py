"""What the writer is given to do, and how it may come out."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from nofx_grpc.errors import NofxError, StoreUnavailable
from nofx_grpc.store import revisions


@dataclass(slots=True)
class Job:
    """One caller's write function, and how it came out."""

    run: Callable[[Connection], Any]
    savepoint: bool  # False for a function that runs no SQL
    future: asyncio.Future[tuple[Any, int]]
    outcome: tuple[Any, int] | None = field(default=None, repr=False)
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
    """The transaction that holds the whole batch is gone, or has to be begun again."""


class CommitUncertain(Exception):
    """The connection was lost while the transaction was committed."""


class Refused(Exception):
    """No transaction can be had; the cause says why."""


def fail(jobs: Iterable[Job], error: Exception) -> None:
    """Give an error to each job that has no answer yet."""
    for job in jobs:
        if job.outcome is None and job.error is None:
            job.error = error


def deliver(jobs: Iterable[Job]) -> None:
    """Answer the callers.  Runs on the event loop."""
    for job in jobs:
        job.deliver()


def cause_of(error: BaseException) -> BaseException:
    """What is behind an error that only says what became of the transaction."""
    ours = isinstance(error, TransactionLost | CommitUncertain | Refused)
    return (ours and error.__cause__) or error


def text_of(error: BaseException) -> str:
    """The driver's words only: SQLAlchemy's text would carry the statement's parameters."""
    cause = cause_of(error)
    return f"{type(cause).__name__}: {cause.orig}" if isinstance(cause, DBAPIError) else type(cause).__name__


def public(error: BaseException, explain: Callable[[BaseException], NofxError | None]) -> Exception:
    """The error that a caller sees: for an error of the database, what it means for a client."""
    if isinstance(error, CommitUncertain):
        return StoreUnavailable("the connection was lost; the write may have taken effect")
    error = cause_of(error)
    if (explained := explain(error)) is not None:
        return explained
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    # A future takes no StopIteration, and what is no Exception would end the event loop.
    return RuntimeError(f"a write function raised {type(error).__name__}")
