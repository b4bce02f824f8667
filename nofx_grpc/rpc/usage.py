"""What each principal has in flight, and how much it reveals: one at its limits leaves room for the others.

Counted in each process; the limits of several workers are shares of the server's.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from nofx_grpc.errors import RateLimited

_MOST_IDLE = 10_000
_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class UsageLimits:
    """What one principal may have: calls and, of these, streams in flight; reveals, a second and after a rest."""

    calls: int = 768
    streams: int = 512
    reveals_per_second: int = 200
    reveals_at_once: int = 10_000


@dataclass(slots=True)
class Usage:
    """What one principal has in flight, and how many reveals it had left at a time."""

    reveals: float
    at: float
    calls: int = 0
    streams: int = 0


class Usages:
    """The usage of every principal of this process.  Used on one event loop."""

    def __init__(self, limits: UsageLimits, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._monotonic = limits, monotonic
        self._of: dict[str, Usage] = {}

    @contextmanager
    def in_flight(self, principal: str, *, stream: bool, reveal: bool) -> Iterator[None]:
        """Serve a call of a principal in this block.  Raises RateLimited."""
        usage = self._of.get(principal) or self._new(principal)
        if usage.calls >= self._limits.calls:
            raise _too_many("calls_in_flight", "calls", self._limits.calls)
        if stream and usage.streams >= self._limits.streams:
            raise _too_many("streams_in_flight", "streams", self._limits.streams)
        if reveal:
            self._spend_reveal(usage)
        usage.calls += 1
        usage.streams += stream
        try:
            yield
        finally:
            usage.calls -= 1
            usage.streams -= stream

    def _spend_reveal(self, usage: Usage) -> None:
        now, rate = self._monotonic(), self._limits.reveals_per_second
        usage.reveals = min(usage.reveals + (now - usage.at) * rate, self._limits.reveals_at_once)
        usage.at = now
        if usage.reveals < 1:
            text = f"this principal reveals more than {rate} secrets or configurations a second"
            raise RateLimited(text, limit="reveals", retry_after=max((1 - usage.reveals) / rate, 0.001))
        usage.reveals -= 1

    def _new(self, principal: str) -> Usage:
        if len(self._of) >= _MOST_IDLE:
            self._forget_idle()
        usage = self._of[principal] = Usage(self._limits.reveals_at_once, self._monotonic())
        return usage

    def _forget_idle(self) -> None:
        """Forget those that have nothing in flight, and would have all their reveals again."""
        now, rate, full = self._monotonic(), self._limits.reveals_per_second, self._limits.reveals_at_once
        self._of = {
            principal: usage
            for principal, usage in self._of.items()
            if usage.calls or usage.reveals + (now - usage.at) * rate < full
        }


def _too_many(limit: str, what: str, most: int) -> RateLimited:
    return RateLimited(
        f"this principal has {most} {what} in flight, which is the most", limit=limit, retry_after=_RETRY_SECONDS
    )
