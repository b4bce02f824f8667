"""Both clients behind one face, so that a test is written once."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

from nofx_grpc.client import AsyncClient, Client

AnyClient: TypeAlias = Client | AsyncClient
KINDS: list[type[AnyClient]] = [Client, AsyncClient]


async def ask(nofx: AnyClient, call: Callable[[Any], Any]) -> Any:
    """What a call answers: the client that blocks is asked in a thread."""
    return await asyncio.to_thread(call, nofx) if isinstance(nofx, Client) else await call(nofx)


async def listed(nofx: AnyClient, call: Callable[[Any], Any]) -> list[Any]:
    """All that an iterator of the client gives."""
    if isinstance(nofx, Client):
        return await asyncio.to_thread(lambda: list(call(nofx)))
    return [item async for item in call(nofx)]


async def close(nofx: AnyClient) -> None:
    await ask(nofx, lambda client: client.close())
