"""The streams that are open, and long calls: whose each is, is asked again while it runs.

Streams of answers end when the server does; what has an end of its own may reach it.
"""

import asyncio
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from nofx_grpc.errors import NofxError, PermissionDenied, ShuttingDown, StoreUnavailable, Unauthenticated
from nofx_grpc.rpc.callers import Callers
from nofx_grpc.rpc.credentials import Credential
from nofx_grpc.services.call import Call, Identity
from nofx_grpc.v1 import common_pb2

logger = structlog.get_logger(__name__)

PERIOD_SECONDS = 0.75
# How long a stream goes on while the store cannot be asked for its token; and how long one question may take.
UNCHECKED_SECONDS = 15.0
_ASK_SECONDS = 5.0
_NOT_ASKED = "it could not be asked whether the credential is still good"


@dataclass(slots=True, eq=False)
class OpenStream:
    """One stream: its call, what its caller has shown, what it may do only with, and the task that serves it."""

    call: Call
    credential: Credential
    permission: common_pb2.Permission.ValueType
    task: "asyncio.Task[object]"
    has_end: bool = False
    error: NofxError | None = None
    checked: float = field(default_factory=time.monotonic)  # when its credential was last known to be good

    def end(self, error: NofxError) -> None:
        """End the stream with this error, wherever its task is."""
        if self.error is None:
            self.error = error
            self.task.cancel()

    def check(self, identity: Identity) -> None:
        """Raises what ends the stream, unless this caller may go on reading it."""
        if self.permission not in identity.permissions:
            raise PermissionDenied("the permission for this stream was taken away")
        if identity.user_id != self.call.identity.user_id:
            raise Unauthenticated("the credential is limited to another user now")


class OpenStreams:
    """Every stream of this process.  Used on one event loop."""

    def __init__(self, callers: Callers, period: float = PERIOD_SECONDS) -> None:
        self._callers, self._period = callers, period
        self._open: set[OpenStream] = set()
        self._stopped = False
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def opened(
        self,
        call: Call,
        credential: Credential,
        permission: common_pb2.Permission.ValueType,
        *,
        has_end: bool = False,
    ) -> Iterator[None]:
        """Serve a stream in this block.  Raises what ended it; ShuttingDown where the server ends already.

        What has an end of its own, an upload or a long call, may reach it while the server drains.
        """
        task = asyncio.current_task()
        if self._stopped or task is None:
            raise ShuttingDown
        stream = OpenStream(call, credential, permission, task, has_end)
        self._open.add(stream)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch(), name="nofx-open-streams")
        try:
            yield
        except asyncio.CancelledError:
            if stream.error is None:
                raise  # the client has gone
            task.uncancel()
            raise stream.error from None
        finally:
            self._open.discard(stream)

    def stop(self) -> None:
        """End all streams that have no end of their own; no more are opened."""
        self._stopped = True
        _end([stream for stream in self._open if not stream.has_end], ShuttingDown())

    async def _watch(self) -> None:
        """Ask again who the callers are, until no stream is open."""
        while self._open:
            began = time.monotonic()
            await self._check_all()
            await asyncio.sleep(max(0.05, self._period - (time.monotonic() - began)))

    async def _check_all(self) -> None:
        began = time.monotonic()
        now = began if await self._ask({stream.credential for stream in self._open}) else None
        by_credential: dict[Credential, list[OpenStream]] = {}
        for stream in self._open:
            by_credential.setdefault(stream.credential, []).append(stream)
        for number, (credential, streams) in enumerate(by_credential.items()):
            if number % 20 == 19:
                await asyncio.sleep(0)  # thousands of callers must not hold up the others
            await self._check(credential, streams, now)
        unchecked = [stream for stream in self._open if stream.checked < began - UNCHECKED_SECONDS]
        _end(unchecked, StoreUnavailable(_NOT_ASKED))

    async def _ask(self, credentials: Collection[Credential]) -> bool:
        """Look up all tokens anew; whether that could be done."""
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                await self._callers.refresh(credentials)
        except Exception:
            logger.warning("identities_not_checked", streams=len(self._open), exc_info=True)
            return False
        return True

    async def _check(self, credential: Credential, streams: list[OpenStream], now: float | None) -> None:
        """End the streams of a credential that is good no more, by what is known of it: an expiry needs no store.

        `now` is when it was looked up, if it was.
        """
        try:
            identity = await self._callers.identify(credential, as_known=True)
        except StoreUnavailable:
            return  # not remembered so long, for there are too many: it is looked up again in a moment
        except NofxError as error:
            _end(streams, error)
            return
        except Exception:  # who cannot be identified any more, for whatever reason, reads no further
            logger.exception("identity_not_checked", streams=len(streams))
            _end(streams, StoreUnavailable(_NOT_ASKED))
            return
        for stream in streams:
            try:
                stream.check(identity)
            except NofxError as error:
                stream.end(error)
            else:
                stream.call.identity, stream.checked = identity, now or stream.checked


def _end(streams: Iterable[OpenStream], error: NofxError) -> None:
    for stream in streams:
        stream.end(error)
