"""A service that does as a test says, over grpcio-testing's fake channel and fake clock."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread
from typing import Any

import grpc
import grpc_testing
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from nofx_grpc.client.calls import Policy
from nofx_grpc.client.rpcs import Sync
from nofx_grpc.client.services import Services
from nofx_grpc.client.sync import SyncCaller
from tests.support.rpcs import METHODS, SERVICES

HISTORY = "7d0a3e5c-0000-4000-8000-000000000001"


def at(revision: int, history: str = HISTORY) -> tuple[tuple[str, str], ...]:
    """The trailing metadata of an answer at a revision."""
    return (("nofx-revision", str(revision)), ("nofx-history", history))


@dataclass(frozen=True)
class Reply:
    """What the service does with one attempt: it takes its time, then answers or fails."""

    answer: Message | None = None
    code: grpc.StatusCode = grpc.StatusCode.OK
    reason: str = ""
    retry_after: float | None = None
    shown: tuple[tuple[str, str], ...] = ()
    takes: float = 0.0
    domain: str = "nofx-grpc"

    def trailing(self) -> tuple[tuple[str, str | bytes], ...]:
        details = []
        if self.reason:
            details.append(_packed(error_details_pb2.ErrorInfo(reason=self.reason, domain=self.domain)))
        if self.retry_after is not None:
            delay = duration_pb2.Duration()
            delay.FromMilliseconds(int(self.retry_after * 1000))
            details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
        status = status_pb2.Status(code=self.code.value[0], details=details)
        return (*self.shown, ("grpc-status-details-bin", status.SerializeToString()))


@dataclass(frozen=True)
class Attempt:
    """One attempt as the service sees it: when, with what time left, and what it is asked."""

    time: float
    timeout: float | None
    request: Any
    metadata: dict[str, str]


class FakeService:
    """Gives these replies, one to each attempt; `client` waits by moving the fake clock, with `jitter` for chance."""

    def __init__(self, *replies: Reply, jitter: float = 1.0, **policy: Any) -> None:
        self.time = grpc_testing.strict_fake_time(1_000.0)
        self.attempts: list[Attempt] = []
        self.pauses: list[float] = []
        self.responded = False
        self.end_stream: Callable[[], None] = lambda: None
        self._replies = list(replies)
        self._channel = grpc_testing.channel(SERVICES, self.time)
        made = Policy(clock=self.time.time, random=lambda: jitter, **policy)
        # The channel is this object: it asks grpcio-testing's, and answers there in a thread.
        self.client: Services[Sync] = Services(SyncCaller(self, made, self._pause))  # type: ignore[arg-type]  # a part of one

    def will(self, *replies: Reply) -> "FakeService":
        """Give these replies from now on."""
        self._replies = list(replies)
        return self

    def unary_unary(self, path: str, *codecs: Any) -> "_Stub":
        return _Stub(self, path, self._channel.unary_unary(path, *codecs))

    def unary_stream(self, path: str, *codecs: Any) -> "_StreamStub":
        return _StreamStub(self, path, self._channel.unary_stream(path, *codecs))

    def answer(self, path: str, timeout: float | None) -> None:
        """Take the attempt that is made now, and answer it as it was said; a stream with one response, if there is."""
        rpc = METHODS[path.removeprefix("/nofx_grpc.v1.").replace("/", ".")]
        take = self._channel.take_unary_stream if rpc.server_streaming else self._channel.take_unary_unary
        metadata, request, attempt = take(rpc)
        self.attempts.append(Attempt(self.time.time(), timeout, request, dict(metadata)))
        reply = self._replies.pop(0)
        self.time.sleep_for(reply.takes)
        if not rpc.server_streaming:
            attempt.terminate(reply.answer, reply.trailing(), reply.code, reply.code.name)
            return
        self.responded = reply.answer is not None
        if self.responded:
            attempt.send_response(reply.answer)
        self.end_stream = lambda: attempt.terminate(reply.trailing(), reply.code, reply.code.name)

    def check_asked_for_all(self) -> None:
        assert self._replies == [], "the client did not try again"

    def check_one_more(self) -> None:
        assert self._replies, "the client made more attempts than it should"

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.time.sleep_for(seconds)


class _Stub:
    def __init__(self, service: FakeService, path: str, stub: Any) -> None:
        self._service, self._path, self._stub = service, path, stub

    def with_call(self, request: Message, *, timeout: float, metadata: Any) -> Any:
        self._service.check_one_more()
        sent = type(request).FromString(request.SerializeToString())  # the fake channel would keep the object itself
        answering = Thread(target=self._service.answer, args=(self._path, timeout))
        answering.start()
        try:
            return self._stub.with_call(sent, timeout=timeout, metadata=metadata)
        finally:
            answering.join()


class _StreamStub(_Stub):
    def __call__(self, request: Message, *, timeout: float | None, metadata: Any) -> Any:
        self._service.check_one_more()
        sent = type(request).FromString(request.SerializeToString())
        stream = self._stub(sent, timeout=timeout, metadata=metadata)
        self._service.answer(self._path, timeout)
        return _Stream(self._service, stream)


class _Stream:
    """Ends when its response was read: grpcio-testing forgets a response that was not when the call failed."""

    def __init__(self, service: FakeService, stream: Any) -> None:
        self._service, self._stream = service, stream
        self._waiting = service.responded

    def __next__(self) -> Any:
        if not self._waiting:
            self._service.end_stream()
        self._waiting = False
        return next(self._stream)

    def trailing_metadata(self) -> Any:
        return self._stream.trailing_metadata()


def _packed(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
