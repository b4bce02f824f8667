"""When a call may be made again, and how long to wait before.

A server that was killed after its commit answers UNAVAILABLE too.  So only these are made again: reads, which change
nothing, and writes that carry a request id, which the service does once however often they come.  Updates and deletes
carry none and are not: a second attempt would meet the etag that the first has changed, or undo what somebody else has
done in between, and only the caller can tell.
"""

from collections.abc import Callable
from dataclasses import dataclass

from nofx_grpc.client.errors import ClientSettingsError, NofxClientError, ResourceExhausted, Unavailable
from nofx_grpc.client.rpcs import Method


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a call is made at most, and the pauses in between.

    The n-th pause is a random part of `first_pause` * 2 ** (n - 1) seconds, at most of `longest_pause`: clients that
    failed together do not come back together.  Where the service says how long to wait, that is added.
    """

    attempts: int = 10
    first_pause: float = 0.1
    longest_pause: float = 2.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or not 0 <= self.first_pause <= self.longest_pause:
            raise ClientSettingsError(f"{self}: expected attempts >= 1 and 0 <= first_pause <= longest_pause")

    def pause(self, failed: int, retry_after: float | None, random: Callable[[], float]) -> float:
        """Seconds to wait after so many failed attempts; `random` gives a number from 0 to 1."""
        ceiling = self.first_pause * 2.0 ** min(failed - 1, 60)  # more would overflow
        return (retry_after or 0.0) + random() * min(ceiling, self.longest_pause)


DEFAULT_RETRY = Retry()
NO_RETRY = Retry(attempts=1)


def may_repeat(method: Method, error: NofxClientError) -> bool:
    """Whether a call that failed so may be made again."""
    if isinstance(error, Unavailable):
        return method.is_read or method.takes_request_id
    return isinstance(error, ResourceExhausted) and method.is_read and error.retry_after is not None
