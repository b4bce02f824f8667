"""Streams of responses, one class for each client.

A stream that has not begun is tried again as reads are.  Once a response was given out it is not: only who reads it
knows how to go on, as `nofx_grpc.client.mirror` does.
"""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import grpc

from nofx_grpc.client.calls import Call


class SyncStream:
    """A stream in the client that blocks: see `nofx_grpc.client.rpcs.Stream`."""

    def __init__(self, call: Call, stub: Any, request: Any, sleep: Callable[[float], None]) -> None:
        self._call, self._stub, self._request, self._sleep = call, stub, request, sleep
        self._attempt: Any = None
        self._closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """The next response.  Raises StopIteration at the end, also after `close`."""
        while not self._closed:
            try:
                response = next(self._begun())
            except StopIteration:
                self._call.ended(self._attempt.trailing_metadata())
                raise
            except grpc.RpcError as error:
                if self._closed:
                    break
                pause = self._call.pause_after(error)
            else:
                self._call.heard(response)
                return response
            self._attempt = None
            self._sleep(pause)
        raise StopIteration

    def close(self) -> None:
        """End the stream, also under another thread that reads it."""
        self._closed = True
        if (attempt := self._attempt) is not None:
            attempt.cancel()

    def _begun(self) -> Any:
        if self._attempt is None:
            call = self._call
            self._attempt = self._stub(self._request, timeout=call.timeout(), metadata=call.metadata())
            if self._closed:  # meanwhile, by another thread, which found nothing to cancel
                self._attempt.cancel()
        return self._attempt

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncStream:
    """A stream in the client of asyncio: see `nofx_grpc.client.rpcs.AsyncStream`."""

    def __init__(self, call: Call, stub: Any, request: Any, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._call, self._stub, self._request, self._sleep = call, stub, request, sleep
        self._attempt: Any = None
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        """The next response.  Raises StopAsyncIteration at the end, also after `close`."""
        while not self._closed:
            try:
                response = await self._read()
            except grpc.RpcError as error:
                pause = self._call.pause_after(error)
            else:
                if response is not grpc.aio.EOF:
                    self._call.heard(response)
                    return response
                if not self._closed:
                    self._call.ended(await self._attempt.trailing_metadata())
                break
            self._attempt = None
            await self._sleep(pause)
        raise StopAsyncIteration

    def close(self) -> None:
        """End the stream, also under another task that reads it."""
        self._closed = True
        if self._attempt is not None:
            self._attempt.cancel()

    async def _read(self) -> Any:
        if self._attempt is None:
            call = self._call
            self._attempt = self._stub(self._request, timeout=call.timeout(), metadata=call.metadata())
        try:
            return await self._attempt.read()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Not this task was cancelled but the call: by `close`, or with the channel.
            if self._closed:
                return grpc.aio.EOF
            raise grpc.aio.AioRpcError(
                grpc.StatusCode.CANCELLED, grpc.aio.Metadata(), grpc.aio.Metadata(), "the client was closed"
            ) from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
