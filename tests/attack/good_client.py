"""A client that does nothing wrong, beside those that do."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc

from nofx_grpc.v1 import exchanges_pb2, exchanges_pb2_grpc
from tests.attack.scene import Scene

BINANCE = exchanges_pb2.GetExchangeRequest(user_id="default", id="binance")
_PAUSE = 0.01
_ITS_OWN = [("grpc.use_local_subchannel_pool", 1)]  # a connection that it shares with nobody
_CALL_SECONDS = 60.0


@dataclass
class GoodClient:
    """Calls again and again by one connection, and notes how it is answered."""

    outcomes: Counter[str] = field(default_factory=Counter)
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    def served(self) -> bool:
        return set(self.outcomes) == {"OK"}


@asynccontextmanager
async def good_client(place: Scene, role: str = "admin") -> AsyncIterator[GoodClient]:
    """One that calls all the time in this block, and has been answered at its begin and before its end."""
    client, stopping = GoodClient(), asyncio.Event()

    async def call_on() -> None:
        async with grpc.aio.insecure_channel(place.server.address, options=_ITS_OWN) as channel:
            stub = exchanges_pb2_grpc.ExchangesStub(channel)
            while not stopping.is_set():
                await _call(stub, place.server.authorization(role), client)
                await asyncio.sleep(_PAUSE)
            await _call(stub, place.server.authorization(role), client)

    task = asyncio.create_task(call_on())
    try:
        await client.answered.wait()
        yield client
    finally:
        stopping.set()
        await task


async def _call(
    stub: exchanges_pb2_grpc.ExchangesStub, metadata: tuple[tuple[str, str], ...], client: GoodClient
) -> None:
    try:
        await stub.GetExchange(BINANCE, metadata=metadata, timeout=_CALL_SECONDS)  # type: ignore[misc]
    except grpc.aio.AioRpcError as error:
        client.outcomes[f"{error.code().name}: {error.details()}"] += 1
    else:
        client.outcomes["OK"] += 1
    client.answered.set()
