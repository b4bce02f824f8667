"""What tests of streams share: one reader of a watch, and changes to be watched."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.message import Message

from nofx_grpc.v1 import exchanges_pb2, watch_pb2
from tests.support.service import Client, Refusal, refusal_of

M = TypeVar("M", bound=Message)

SECONDS = 30.0  # generous: a busy machine is no error


async def read(call: Any) -> Any:
    """The next response, which must come soon."""
    response = await asyncio.wait_for(call.read(), SECONDS)
    assert response is not grpc.aio.EOF, "the stream has ended"
    return response


async def until(condition: Callable[[], object]) -> None:
    """Wait until something holds, which must be soon."""
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.01)


async def ended(call: Any, code: grpc.StatusCode, reason: str) -> Refusal:
    """Read until the stream ends, which must be with this code and reason."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(_drain(call), SECONDS)
    refusal = refusal_of(caught.value)
    assert (refusal.code, refusal.reason) == (code, reason), refusal.text
    return refusal


async def _drain(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


class Watching:
    """A watch and what it was told."""

    def __init__(self, client: Client, kinds: Iterable[str] = (), **fields: Any) -> None:
        values = [watch_pb2.ResourceKind.Value(f"RESOURCE_KIND_{kind}") for kind in kinds]
        self.call = client.watch.Watch(watch_pb2.WatchRequest(kinds=values, **fields))
        self.state: dict[tuple[int, str, str], Message] = {}
        self.last = watch_pb2.WatchResponse()

    async def next(self) -> watch_pb2.WatchResponse:
        self.last = await read(self.call)
        for resource in self.last.snapshot.resources:
            shown = shown_resource(resource)
            id = next(str(getattr(shown, name)) for name in ("id", "key", "code", "user_id") if hasattr(shown, name))
            user_id = id if self.last.snapshot.kind == watch_pb2.RESOURCE_KIND_USER else getattr(shown, "user_id", "")
            self.state[self.last.snapshot.kind, user_id, id] = shown
        for change in self.last.changes.changes:
            key = change.kind, change.user_id, change.id
            if change.operation == watch_pb2.OPERATION_DELETE:
                self.state.pop(key, None)
            else:
                self.state[key] = shown_resource(change.resource)
        return self.last

    async def changes(self) -> watch_pb2.Changes:
        """The next changes; bookmarks before them are passed over."""
        while not (await self.next()).HasField("changes"):
            assert self.last.HasField("bookmark"), self.last
        return self.last.changes

    async def synced(self) -> int:
        """Read up to the mark; its revision."""
        while not (await self.next()).HasField("synced"):
            pass
        return self.last.revision


def shown_resource(resource: watch_pb2.Resource) -> Message:
    """The message of whatever kind a resource is."""
    shown: Message = getattr(resource, str(resource.WhichOneof("resource")))
    return shown


def named(changes: watch_pb2.Changes) -> list[str]:
    """The changes in words."""
    return [
        f"{watch_pb2.Operation.Name(c.operation).removeprefix('OPERATION_')} {c.user_id}/{c.id}"
        for c in changes.changes
    ]


async def create_exchange(client: Client, id: str, user_id: str = "default", **fields: Any) -> exchanges_pb2.Exchange:
    exchange = exchanges_pb2.Exchange(**{"name": "X", "type": "cex"} | fields)
    request = exchanges_pb2.CreateExchangeRequest(user_id=user_id, exchange_id=id, exchange=exchange)
    return await client.exchanges.CreateExchange(request)


async def rename_exchange(client: Client, id: str, name: str, user_id: str = "default") -> exchanges_pb2.Exchange:
    exchange = exchanges_pb2.Exchange(user_id=user_id, id=id, name=name)
    return await client.exchanges.UpdateExchange(exchanges_pb2.UpdateExchangeRequest(exchange=exchange))


async def delete_exchange(client: Client, id: str, user_id: str = "default") -> None:
    await client.exchanges.DeleteExchange(exchanges_pb2.DeleteExchangeRequest(user_id=user_id, id=id))
