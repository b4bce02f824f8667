"""The client that blocks."""

import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

import grpc

from nofx_grpc.client.base import BaseClient
from nofx_grpc.client.calls import Call, Policy
from nofx_grpc.client.connection import Connection
from nofx_grpc.client.errors import NofxClientError
from nofx_grpc.client.rpcs import Method, Sync
from nofx_grpc.client.streams import SyncStream


class SyncCaller:
    """Makes calls over a channel as the policy says."""

    def __init__(self, channel: grpc.Channel, policy: Policy, sleep: Callable[[float], None] = time.sleep) -> None:
        self._channel, self._policy, self._sleep = channel, policy, sleep

    def unary(self, method: Method) -> Callable[..., Any]:
        send = self._sender(method)
        return lambda **fields: send(method.request(**fields))

    def paged(self, method: Method, items: Callable[[Any], Iterable[Any]]) -> "SyncPages":
        return SyncPages(method, self._sender(method), items)

    def client_stream(self, method: Method) -> Callable[..., Any]:
        stub = self._channel.stream_unary(method.path, method.request.SerializeToString, method.response.FromString)
        return lambda requests: self._complete(method, stub, iter(requests))

    def server_stream(self, method: Method) -> Callable[..., "SyncStream"]:
        stub = self._channel.unary_stream(method.path, method.request.SerializeToString, method.response.FromString)

        def stream(**fields: Any) -> SyncStream:
            request = method.request(**fields)
            return SyncStream(Call(self._policy, method, request, stream=True), stub, request, self._sleep)

        return stream

    def _sender(self, method: Method) -> Callable[[Any], Any]:
        stub = self._channel.unary_unary(method.path, method.request.SerializeToString, method.response.FromString)
        return lambda request: self._complete(method, stub, request)

    def _complete(self, method: Method, stub: Any, request: Any) -> Any:
        """Attempt a call until it is answered or given up."""
        call = Call(self._policy, method, request)
        while True:
            try:
                answer, done = stub.with_call(request, timeout=call.timeout(), metadata=call.metadata())
                call.answered(done.trailing_metadata())
                return answer
            except (grpc.RpcError, NofxClientError) as error:
                pause = call.pause_after(error)
            self._sleep(pause)


class SyncPages:
    """A list: called, one page of it; `pages` and `all` fetch page after page as they are read."""

    def __init__(self, method: Method, send: Callable[[Any], Any], items: Callable[[Any], Iterable[Any]]) -> None:
        self._method, self._send, self._items = method, send, items

    def __call__(self, **fields: Any) -> Any:
        return self._send(self._method.request(**fields))

    def pages(self, **fields: Any) -> Iterator[Any]:
        request = self._method.request(**fields)
        while True:
            page = self._send(request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def all(self, **fields: Any) -> Iterator[Any]:
        for page in self.pages(**fields):
            yield from self._items(page)


class Client(BaseClient[Sync]):
    """The client that blocks; threads may share it.

    with Client.from_env() as nofx:
        config = nofx.traders.get_trader_config(user_id="ada", trader_id="t-1")
    """

    _channel: grpc.Channel

    def _open(self, connection: Connection) -> grpc.Channel:
        return connection.channel()

    def _caller(self, policy: Policy) -> SyncCaller:
        return SyncCaller(self._channel, policy)

    def close(self) -> None:
        """Close the connection; calls under way fail with Cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
