"""How a stream of changes is followed over cuts, restarts and restores, without any I/O.

A stream that breaks is resumed after the last revision whose changes are all known.  Where that revision is not to be
had any more, the stream begins again with a new initial state.
"""

import random
import time
from collections.abc import Callable
from typing import Any

import grpc

from nofx_grpc.client import errors
from nofx_grpc.client.credentials import Token
from nofx_grpc.client.errors import NofxClientError
from nofx_grpc.client.retries import Retry
from nofx_grpc.client.revisions import Revision

# A stream is opened again for as long as it takes: the number of attempts is not used.
BACK_OFF = Retry(first_pause=0.1, longest_pause=5.0)

# What does not get better by itself.
_FATAL = (
    errors.InvalidArgument,
    errors.PermissionDenied,
    errors.NotFound,
    errors.FailedPrecondition,
    errors.Unimplemented,
)


def lost(method: str, why: str) -> NofxClientError:
    """The error of a stream that is of no use any more, though gRPC has found nothing wrong with it."""
    return errors.error_of(errors.Failure(method, grpc.StatusCode.UNAVAILABLE, why))


class Following:
    """Where a stream that is followed stands, and what is to be done when it breaks."""

    def __init__(
        self,
        token: Token | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
    ) -> None:
        self.position: Revision | None = None  # all changes up to there are known
        self.trouble: NofxClientError | None = None  # why there is no stream at the moment
        self._token, self._clock, self._random = token, clock, random
        self._failed = 0
        self._opened = clock()

    def opening(self) -> dict[str, Any]:
        """A stream is about to be opened: the fields of its request that say where it begins; none for anew."""
        self._opened = self._clock()
        if self.position is None:
            return {}
        return {"start_revision": self.position.number, "history_id": self.position.history}

    def heard(self, response: Any) -> bool:
        """Note a response; whether all changes up to its revision are known with it."""
        self.trouble = None
        if response.revision:
            self.position = Revision(response.history_id, response.revision)
        return bool(response.revision)

    def pause_after(self, error: NofxClientError) -> float:
        """The stream has broken: seconds until it is to be opened again.  Raises the error if that would not help."""
        if self.is_fatal(error):
            raise error
        if isinstance(error, errors.OutOfRange):
            self.position = None
        self.trouble = error
        # A stream that has lasted shows that the server is well: only what fails in a row is waited for longer.
        lasted = self._clock() - self._opened > BACK_OFF.longest_pause
        self._failed = 1 if lasted else self._failed + 1
        return BACK_OFF.pause(self._failed, error.retry_after, self._random)

    def is_fatal(self, error: NofxClientError) -> bool:
        """Whether no attempt can succeed: what is wrong is the request, or a credential that stays the same."""
        if isinstance(error, errors.Unauthenticated):
            return self._token is None or not self._token.may_change
        return isinstance(error, _FATAL)
