"""The mirror of the client of asyncio."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from nofx_grpc.client.aio import AsyncClient
from nofx_grpc.client.errors import NofxClientError
from nofx_grpc.client.mirror_base import SILENCE_SECONDS, MirrorBase
from nofx_grpc.client.rpcs import AsyncStream
from nofx_grpc.v1.traders_pb2 import TraderConfig, WatchTraderConfigsResponse

AsyncCallback = Callable[[TraderConfig], Awaitable[object]]


class AsyncTraderConfigMirror(MirrorBase):
    """`TraderConfigMirror` for asyncio: the same, its callbacks are coroutine functions.

    async with AsyncClient.from_env() as nofx, AsyncTraderConfigMirror(nofx, on_change=run, on_remove=stop) as mirror:
        await mirror.wait_until_synced(timeout=30)
        await mirror.join()
    """

    def __init__(
        self,
        nofx: AsyncClient,
        *,
        user_id: str = "",
        runnable_only: bool = False,
        on_change: AsyncCallback | None = None,
        on_remove: AsyncCallback | None = None,
        silence: float = SILENCE_SECONDS,
    ) -> None:
        self._nofx, following = nofx.following()
        super().__init__(following, user_id=user_id, runnable_only=runnable_only, silence=silence)
        self._on_change, self._on_remove = on_change or _ignore, on_remove or _ignore
        self._untold, self._synced, self._stop = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin; `async with` does it."""
        if self._tasks:
            raise RuntimeError("a mirror is started once")
        for work in (self._follow, self._tell):
            self._tasks.append(asyncio.create_task(self._guarded(work), name=f"nofx-mirror{work.__name__}"))

    async def close(self) -> None:
        """Stop; a callback that is running is cancelled.  The view stays as it is."""
        self._end()
        others = [task for task in self._tasks if task is not asyncio.current_task()]
        await asyncio.gather(*others, return_exceptions=True)

    async def wait_until_synced(self, timeout: float | None = None) -> None:
        """Wait for the first view.  Raises TimeoutError, and what the mirror has failed with."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._synced.wait()
        self._check_synced(timeout, closed=self._stop.is_set())

    async def join(self) -> None:
        """Wait until the mirror is closed.  Raises what it has failed with."""
        await self._stop.wait()
        self._check()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001  # whatever it is, whoever uses the mirror must hear of it
            self._end(error)

    def _end(self, error: BaseException | None = None) -> None:
        if error is not None and not self._stop.is_set():
            self._fail(error)
        self._stop.set()
        self._synced.set()
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()

    async def _follow(self) -> None:
        while not self._stop.is_set():
            error = self._lost()
            try:
                async with self._nofx.traders.watch_trader_configs(**self._opening()) as stream:
                    await self._read(stream)
            except NofxClientError as caught:
                error = caught
            await asyncio.sleep(self._pause_after(error))

    async def _read(self, stream: AsyncStream[WatchTraderConfigsResponse]) -> None:
        """Take what comes, until nothing does."""
        try:
            while True:
                async with asyncio.timeout(self._silence):
                    response = await anext(stream)
                if self._receive(response):
                    self._synced.set()
                    self._untold.set()
        except (StopAsyncIteration, TimeoutError):
            return

    async def _tell(self) -> None:
        while not self._stop.is_set():
            await self._untold.wait()
            self._untold.clear()
            told = self._state.tell()
            for callback, configs in ((self._on_remove, told.removed), (self._on_change, told.changed)):
                for config in configs:
                    await callback(config)
                    if self._stop.is_set():
                        return


async def _ignore(_: TraderConfig) -> None:
    """What is called where nobody wants to be told."""
