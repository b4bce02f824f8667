"""One call from its first attempt to its end, without any I/O: both clients are driven by it."""

import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc

from nofx_grpc.client.credentials import Token
from nofx_grpc.client.errors import DeadlineExceeded, Failure, NofxClientError, RevisionNotReached
from nofx_grpc.client.failures import client_error
from nofx_grpc.client.retries import DEFAULT_RETRY, Retry, may_repeat
from nofx_grpc.client.revisions import Metadata, Revision, Revisions
from nofx_grpc.client.rpcs import Method


@dataclass(frozen=True, slots=True)
class Policy:
    """How calls are made.  `revisions` is None where reads may be older than what was seen; without `asks` they may be,
    and what they show is remembered all the same.

    `timeout` is for calls with one answer, `stream_timeout` (None: no deadline) for those that answer with a stream.
    """

    token: Token | None = None
    timeout: float = 10.0
    stream_timeout: float | None = None
    retry: Retry = DEFAULT_RETRY
    revisions: Revisions | None = field(default_factory=Revisions)
    asks: bool = True
    clock: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random


class Call:
    """One call: what each attempt is sent with, and what is to be done when it fails."""

    def __init__(self, policy: Policy, method: Method, request: Any, *, stream: bool = False) -> None:
        self._policy, self._method = policy, method
        timeout = policy.stream_timeout if stream else policy.timeout
        self._until = None if timeout is None else policy.clock() + timeout
        self._failed = 0
        self._begun = False  # a stream that has begun is not begun again: its client could take it for the same
        self._wanted: Revision | None = None  # what the client had seen when the attempt began
        self._request_id = _with_request_id(request) if method.takes_request_id else ""

    def timeout(self) -> float | None:
        """Seconds left for the next attempt; None for as long as it takes."""
        return None if self._until is None else self._until - self._policy.clock()

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What the next attempt is sent with."""
        token, revisions = self._policy.token, self._policy.revisions
        credential = () if token is None else (("authorization", token.header()),)
        # Only reads ask: a write is done in the present state of the store, whatever was seen.
        if revisions is None or not self._policy.asks or not self._method.is_read:
            return credential
        self._wanted, wanted = revisions.latest, revisions.wanted()
        return credential if wanted is None else (*credential, ("nofx-min-revision", str(wanted.number)))

    def answered(self, trailing: Metadata) -> None:
        """Note what an answer shows.  Raises RevisionNotReached if it is older than what the client had seen."""
        shown, wanted = self._note(trailing), self._wanted
        if shown and wanted and shown.history == wanted.history and shown.number < wanted.number:
            text = f"the answer is of revision {shown.number}, and revision {wanted.number} was seen before"
            raise RevisionNotReached(
                Failure(self._method.name, grpc.StatusCode.UNAVAILABLE, text, reason="REVISION_NOT_REACHED")
            )

    def heard(self, response: Any) -> None:
        """Note a response of a stream, and which revision it shows."""
        self._begun = True
        if self._method.shows_revision and response.revision and self._policy.revisions:
            self._policy.revisions.add(Revision(response.history_id, response.revision))

    def ended(self, trailing: Metadata) -> None:
        """Note the end of a stream."""
        self._note(trailing)

    def pause_after(self, error: grpc.RpcError | NofxClientError) -> float:
        """Seconds to wait before the next attempt.  Raises the error as one of ours if there is to be none."""
        failure = error if isinstance(error, NofxClientError) else self._failure(error)
        self._failed += 1
        if not self._begun and self._failed < self._policy.retry.attempts and may_repeat(self._method, failure):
            pause = self._policy.retry.pause(self._failed, failure.retry_after, self._policy.random)
            left = self.timeout()
            if left is None or pause < left:
                return pause
        if self._failed > 1:
            failure.add_note(f"after {self._failed} attempts")
        raise failure from (None if failure is error else error)

    def _failure(self, error: grpc.RpcError) -> NofxClientError:
        self._note(error.trailing_metadata() or ())
        failure = client_error(error, self._method.name, self._request_id)
        # With a reason it is the server's own word, and the server answers.
        if isinstance(failure, DeadlineExceeded) and not failure.reason and self._policy.revisions:
            self._policy.revisions.doubt()
        return failure

    def _note(self, trailing: Metadata) -> Revision | None:
        return self._policy.revisions.note(trailing) if self._policy.revisions else None


def _with_request_id(request: Any) -> str:
    """The id of a request, which gets one if the caller gave none."""
    request.request_id = request.request_id or str(uuid.uuid4())
    return str(request.request_id)
