"""Mirrors of both clients behind one face, so that a test is written once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest

from nofx_grpc.client import AsyncClient, AsyncTraderConfigMirror, Client, TraderConfigMirror
from nofx_grpc.v1.traders_pb2 import TraderConfig
from tests.client.support import AnyClient, close

AnyMirror: TypeAlias = TraderConfigMirror | AsyncTraderConfigMirror
SECONDS = 30.0


class Mirrored:
    """A mirror, and what it has told: the ids of what changed, with '-' before those of what was removed."""

    def __init__(self, nofx: AnyClient, **options: Any) -> None:
        self.told: list[str] = []
        self.mirror: AnyMirror
        if isinstance(nofx, AsyncClient):
            self.mirror = AsyncTraderConfigMirror(
                nofx, **({"on_change": self._changed_soon, "on_remove": self._removed_soon} | options)
            )
        else:
            self.mirror = TraderConfigMirror(
                nofx, **({"on_change": self._changed, "on_remove": self._removed} | options)
            )

    @property
    def names(self) -> dict[str, str]:
        """The names of the traders that the mirror holds, by their ids."""
        return {key[1]: config.trader.name for key, config in self.mirror.view.items()}

    async def synced(self, timeout: float = SECONDS) -> None:
        await self.done(self.mirror.wait_until_synced, timeout)

    async def shows(self, condition: Callable[[dict[str, str]], object]) -> None:
        """Wait until the names are so, which must be soon."""
        await until(lambda: condition(self.names))

    async def failed(self, kind: type[BaseException]) -> BaseException:
        """Wait until the mirror fails with such an error; everything that it shows must raise it then."""
        with pytest.raises(kind) as caught:
            await asyncio.wait_for(self.done(self.mirror.join), SECONDS)
        for use in (lambda: self.mirror.view, lambda: self.mirror.get("ada", "t-1")):
            with pytest.raises(kind) as again:
                use()
            assert again.value is caught.value
        with pytest.raises(kind):
            await self.done(self.mirror.wait_until_synced, 1.0)
        return caught.value

    async def done(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """What a method of the mirror does: one that blocks runs in a thread."""
        if isinstance(self.mirror, TraderConfigMirror):
            return await asyncio.to_thread(method, *arguments)
        return await method(*arguments)

    def _changed(self, config: TraderConfig) -> None:
        self.told.append(config.trader.id)

    def _removed(self, config: TraderConfig) -> None:
        self.told.append(f"-{config.trader.id}")

    async def _changed_soon(self, config: TraderConfig) -> None:
        self._changed(config)

    async def _removed_soon(self, config: TraderConfig) -> None:
        self._removed(config)


@asynccontextmanager
async def mirrored(nofx: AnyClient, **options: Any) -> AsyncIterator[Mirrored]:
    """A mirror of this client, which is closed with it."""
    one = Mirrored(nofx, **options)
    one.mirror.start()
    try:
        yield one
    finally:
        await one.done(one.mirror.close)
        await close(nofx)


async def until(condition: Callable[[], object]) -> None:
    """Wait until something holds, which must be soon."""
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.01)


__all__ = ["AnyMirror", "Client", "Mirrored", "mirrored", "until"]
