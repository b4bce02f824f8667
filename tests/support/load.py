"""Writers that do not give up: each repeats a call, at one server after the other, until it is answered."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from nofx_grpc.v1 import beta_codes_pb2
from nofx_grpc.v1 import exchanges_pb2 as pb
from tests.support.service import Client, refusal_of

# After which nobody knows whether it was done; a repeat with the same request id finds out.
_AGAIN = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


@dataclass
class Load:
    """Creates exchanges of the user `default`, and beta codes, at all servers; what was answered, and what was refused
    meanwhile.
    """

    addresses: Sequence[str]
    token: str
    name: str = "first"
    writers: int = 8
    size: int = 20  # of the key of an exchange
    acknowledged: dict[str, int] = field(default_factory=dict)  # id -> revision
    codes: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)  # by reason, or by code where gRPC itself refused
    longest_wait: float = 0.0  # between two answers, whoever got them
    _last: float = 0.0
    _stopping: bool = False
    _task: "asyncio.Task[None] | None" = None

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Write no more, and return when every call that was begun is answered."""
        self._stopping = True
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        self._last = time.monotonic()
        clients = [Client(address, self.token) for address in self.addresses]
        try:
            writing = [self._write(clients, number) for number in range(self.writers)]
            await asyncio.gather(*writing, self._generate(clients))
        finally:
            for client in clients:
                await client.close()

    async def reach(self, more: int) -> None:
        """Wait until so many calls more are answered."""
        enough = len(self.acknowledged) + more
        await self.until(lambda: len(self.acknowledged) >= enough)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(90):
            while not condition() and not (self._task and self._task.done()):  # noqa: ASYNC110  # what is waited for tells nobody
                await asyncio.sleep(0.05)
        if self._task and self._task.done():
            await self._task  # which raises what has ended it

    async def _write(self, clients: list[Client], writer: int) -> None:
        calls = [client.exchanges.CreateExchange for client in clients]
        number = 0
        while not self._stopping:
            number += 1
            exchange = pb.Exchange(name="E", type="cex", api_key=f"key {writer}-{number}".ljust(self.size))
            request = pb.CreateExchangeRequest(
                user_id="default",
                exchange_id=f"{self.name}-{writer}-{number}",
                exchange=exchange,
                request_id=str(uuid.uuid4()),
            )
            self.acknowledged[request.exchange_id] = (await self._answer(calls, writer, request)).revision

    async def _generate(self, clients: list[Client]) -> None:
        """What would be made a second time if a repeat was done again: nothing in the request says what is made."""
        calls = [client.beta_codes.GenerateBetaCodes for client in clients]
        while not self._stopping:
            request = beta_codes_pb2.GenerateBetaCodesRequest(count=1, request_id=str(uuid.uuid4()))
            self.codes += [made.code for made in (await self._answer(calls, 0, request)).beta_codes]

    async def _answer(self, calls: Sequence[Callable[..., Awaitable[Any]]], turn: int, request: Any) -> Any:
        """The answer to a request that is sent to one server after the other until there is one."""
        while (answer := await self._try(calls[turn % len(calls)](request, timeout=5))) is None:
            turn += 1
            await asyncio.sleep(0.1)
        now = time.monotonic()
        self.longest_wait, self._last = max(self.longest_wait, now - self._last), now
        return answer

    async def _try(self, call: Awaitable[Any]) -> Any:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            if error.code() not in _AGAIN:
                raise AssertionError(f"{error.code()}: {error.details()} {refusal_of(error)}") from error
            self.refused[_named(error)] += 1
            return None


def _named(error: grpc.aio.AioRpcError) -> str:
    """The service's reason; the code where gRPC itself has refused."""
    ours = "grpc-status-details-bin" in dict(error.trailing_metadata() or ())
    return refusal_of(error).reason if ours else str(error.code().name)
