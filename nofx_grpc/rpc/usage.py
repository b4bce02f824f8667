"""What each principal has in flight, and how much it reveals: one at its limits leaves room for the others.

A call is in flight from when it is known whose it is until gRPC is done with it, which is when its answer has been
taken: whoever reads no answers is at its limit soon.  Counted in each process; the limits of several workers are shares
of the server's.
"""

import asyncio
import time
from asyncio import Semaphore
from collections.abc import Callable
from dataclasses import dataclass, field

from nofx_grpc.errors import RateLimited

_MOST_IDLE = 10_000
_RETRY_SECONDS = 1.0
# Whose headers are there waits for its message among so many of its principal: of each up to the largest request may
# be in memory.  Where the messages come with their headers, nobody waits.
_MOST_ARRIVING = 32
# Apart from these, since tools keep a stream of reflection open with nothing to ask, and uploads may pause.
_MOST_REFLECTING = _MOST_UPLOADING = 16
# The threads that read many rows are two, and serve who comes first: nobody may come first with hundreds.  More than
# the threads, so that whoever is alone is no slower for it.
_MOST_SCANNING = 4
# How long a response of a stream waits until those of its principal's other streams have been read, where these are the
# most already: many streams that are told of one thing write all at once, however fast each is read.
ROOM_SECONDS = 10.0
_ROOM_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class UsageLimits:
    """What one principal may have: calls and, of these, streams in flight; bytes of answers that it has not read yet,
    and as many of responses of streams; reveals, in a second and after a rest.  And what all may have together: calls.
    """

    calls_of_all: int = 1024
    calls: int = 768
    streams: int = 512
    unread_bytes: int = 64 * 1024 * 1024
    reveals_per_second: int = 200
    reveals_at_once: int = 10_000


@dataclass(slots=True)
class Usage:
    """What one principal has in flight, and how many reveals it had left at a time."""

    reveals: float
    at: float
    calls: int = 0
    streams: int = 0
    unread: int = 0
    streamed: int = 0  # bytes of responses of streams that gRPC holds until they are read
    waiting: int = 0  # of those that wait until there are fewer
    arriving: Semaphore = field(default_factory=lambda: Semaphore(_MOST_ARRIVING))
    reflecting: Semaphore = field(default_factory=lambda: Semaphore(_MOST_REFLECTING))
    scanning: Semaphore = field(default_factory=lambda: Semaphore(_MOST_SCANNING))
    uploading: Semaphore = field(default_factory=lambda: Semaphore(_MOST_UPLOADING))


class Usages:
    """The usage of every principal of this process.  Used on one event loop."""

    def __init__(self, limits: UsageLimits, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._monotonic = limits, monotonic
        self._of: dict[str, Usage] = {}
        self._calls = 0

    def begin(self, principal: str, *, stream: bool) -> "InFlight":
        """Count a call of a principal until its `end`.  Raises RateLimited."""
        usage, limits = self._of.get(principal) or self._new(principal), self._limits
        if usage.calls >= limits.calls:
            raise _too_many("this principal", "calls_in_flight", f"{limits.calls} calls in flight")
        if stream and usage.streams >= limits.streams:
            raise _too_many("this principal", "streams_in_flight", f"{limits.streams} streams in flight")
        self.check_unread(usage)
        if self._calls >= limits.calls_of_all:
            raise _too_many("this server", "calls_of_all", f"{limits.calls_of_all} calls in flight")
        self._calls += 1
        usage.calls += 1
        usage.streams += stream
        return InFlight(self, usage, stream)

    def end(self, call: "InFlight") -> None:
        """Count a call no more, nor its answer."""
        self._calls -= 1
        call.usage.calls -= 1
        call.usage.streams -= call.stream
        call.usage.unread -= call.answer
        call.usage.streamed -= call.response

    def check_unread(self, usage: Usage) -> None:
        """Raises RateLimited if what is there to read is the most already."""
        if usage.unread >= self._limits.unread_bytes:
            raise _too_many("this principal", "answers_not_read", f"{usage.unread} bytes of answers to read")

    async def room(self, usage: Usage, size: int) -> None:
        """Wait until a response may be sent in a stream.  Raises RateLimited where the others are not read in time."""
        if usage.streamed < self._limits.unread_bytes:
            return
        until = self._monotonic() + (ROOM_SECONDS if usage.waiting < self._limits.unread_bytes else 0)
        usage.waiting += size
        try:
            while usage.streamed >= self._limits.unread_bytes:
                if self._monotonic() >= until:
                    text = f"{usage.streamed} bytes of responses of streams to read"
                    raise _too_many("this principal", "streams_not_read", text)
                await asyncio.sleep(_ROOM_POLL_SECONDS)
        finally:
            usage.waiting -= size

    def spend_reveal(self, usage: Usage) -> None:
        """Raises RateLimited if there is none left."""
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


@dataclass(slots=True, eq=False)
class InFlight:
    """A call that is counted."""

    usages: Usages
    usage: Usage
    stream: bool
    answer: int = 0
    response: int = 0  # the one that the stream is sending

    def reveal(self) -> None:
        """Count a reveal.  Raises RateLimited."""
        self.usages.spend_reveal(self.usage)

    def check_unread(self) -> None:
        """Raises RateLimited if others of its principal's calls have so much to read that this one gets no answer."""
        self.usages.check_unread(self.usage)

    def answered(self, size: int) -> None:
        """Count the bytes of the answer until it has been taken."""
        self.answer = size
        self.usage.unread += size

    async def sending(self, size: int) -> None:
        """Count the bytes of a response of a stream until `sent`, or the end: what is cut short is held until then.

        Waits for a while where the principal's other streams are not read; then raises RateLimited.
        """
        await self.usages.room(self.usage, size)
        self.response = size
        self.usage.streamed += size

    def sent(self) -> None:
        """The response has been taken."""
        self.usage.streamed -= self.response
        self.response = 0

    def end(self) -> None:
        """Count the call no more."""
        self.usages.end(self)


def _too_many(who: str, limit: str, what: str) -> RateLimited:
    return RateLimited(f"{who} has {what}, which is the most", limit=limit, retry_after=_RETRY_SECONDS)
