"""The client of asyncio."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Self

import grpc

from nofx_grpc.client.base import BaseClient
from nofx_grpc.client.calls import Call, Policy
from nofx_grpc.client.connection import Connection
from nofx_grpc.client.errors import NofxClientError
from nofx_grpc.client.rpcs import Async, Method
from nofx_grpc.client.streams import AsyncStream


class AsyncCaller:
    """Makes calls over a channel as the policy says."""

    def __init__(
        self, channel: grpc.aio.Channel, policy: Policy, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._channel, self._policy, self._sleep = channel, policy, sleep

    def unary(self, method: Method) -> Callable[..., Any]:
        send = self._sender(method)
        return lambda **fields: send(method.request(**fields))

    def paged(self, method: Method, items: Callable[[Any], Iterable[Any]]) -> "AsyncPages":
        return AsyncPages(method, self._sender(method), items)

    def client_stream(self, method: Method) -> Callable[..., Any]:
        stub = self._channel.stream_unary(method.path, method.request.SerializeToString, method.response.FromString)
        return lambda requests: self._complete(method, stub, requests)

    def server_stream(self, method: Method) -> Callable[..., "AsyncStream"]:
        stub = self._channel.unary_stream(method.path, method.request.SerializeToString, method.response.FromString)

        def stream(**fields: Any) -> AsyncStream:
            request = method.request(**fields)
            return AsyncStream(Call(self._policy, method, request, stream=True), stub, request, self._sleep)

        return stream

    def _sender(self, method: Method) -> Callable[[Any], Awaitable[Any]]:
        stub = self._channel.unary_unary(method.path, method.request.SerializeToString, method.response.FromString)
        return lambda request: self._complete(method, stub, request)

    async def _complete(self, method: Method, stub: Any, request: Any) -> Any:
        """Attempt a call until it is answered or given up."""
        call = Call(self._policy, method, request)
        while True:
            try:
                attempt = stub(request, timeout=call.timeout(), metadata=call.metadata())
                answer = await attempt
                call.answered(await attempt.trailing_metadata())
                return answer
            except (grpc.RpcError, NofxClientError) as error:
                pause = call.pause_after(error)
            await self._sleep(pause)


class AsyncPages:
    """A list: called, one page of it; `pages` and `all` fetch page after page as they are read."""

    def __init__(
        self, method: Method, send: Callable[[Any], Awaitable[Any]], items: Callable[[Any], Iterable[Any]]
    ) -> None:
        self._method, self._send, self._items = method, send, items

    async def __call__(self, **fields: Any) -> Any:
        return await self._send(self._method.request(**fields))

    async def pages(self, **fields: Any) -> AsyncIterator[Any]:
        request = self._method.request(**fields)
        while True:
            page = await self._send(request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def all(self, **fields: Any) -> AsyncIterator[Any]:
        async for page in self.pages(**fields):
            for item in self._items(page):
                yield item


class AsyncClient(BaseClient[Async]):
    """The client of asyncio, made and used in one event loop; tasks may share it.

    async with AsyncClient.from_env() as nofx:
        config = await nofx.traders.get_trader_config(user_id="ada", trader_id="t-1")
    """

    _channel: grpc.aio.Channel

    def _open(self, connection: Connection) -> grpc.aio.Channel:
        asyncio.get_running_loop()  # without one gRPC would take any, and fail at the first call
        return connection.aio_channel()

    def _caller(self, policy: Policy) -> AsyncCaller:
        return AsyncCaller(self._channel, policy)

    async def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
