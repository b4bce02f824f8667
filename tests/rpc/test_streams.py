"""Streams of answers: whose credential ends, what a slow reader gets, and how they end with the server."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from nofx_grpc.services import watch
from nofx_grpc.store import tokens
from nofx_grpc.v1 import traders_pb2 as pb
from tests.support.clock import FakeClock
from tests.support.rows import make_trader
from tests.support.service import RunningService, refusal_of, running_service
from tests.support.watching import SECONDS, Watching, create_exchange, ended, named

Code = grpc.StatusCode


async def test_a_revoked_token_ends_its_streams_and_no_others(service: RunningService) -> None:
    secret = await service.make_token("viewer")
    watching, other = Watching(service.client(token=secret)), Watching(service.client())
    await watching.synced(), await other.synced()
    await service.app.db.write(tokens.revoke, secret[-8:])
    refusal = await ended(watching.call, Code.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert refusal.text == "the token was revoked"
    await create_exchange(service.client(), "okx")
    assert named(await other.changes()) == ["CREATE default/okx"]


async def test_a_token_that_expires_ends_its_streams(service: RunningService, clock: FakeClock) -> None:
    secret = await service.make_token("viewer", expires_at=clock() + timedelta(hours=1))
    watching = Watching(service.client(token=secret))
    await watching.synced()
    clock.advance(hours=1)
    await ended(watching.call, Code.UNAUTHENTICATED, "UNAUTHENTICATED")


async def test_a_token_that_loses_the_permission_ends_its_streams(service: RunningService) -> None:
    secret = await service.make_token("viewer")
    watching = Watching(service.client(token=secret))
    await watching.synced()
    await service.execute("UPDATE tokens SET role = 'none' WHERE id = ?", secret[-8:])
    await ended(watching.call, Code.PERMISSION_DENIED, "PERMISSION_DENIED")


async def test_a_token_that_is_limited_later_ends_its_streams(service: RunningService) -> None:
    secret = await service.make_token("viewer")
    watching = Watching(service.client(token=secret))
    await watching.synced()
    await service.execute("UPDATE tokens SET user_id = 'ada' WHERE id = ?", secret[-8:])
    await ended(watching.call, Code.UNAUTHENTICATED, "UNAUTHENTICATED")


async def test_the_refusal_is_on_record(service: RunningService) -> None:
    secret = await service.make_token("viewer")
    watching = Watching(service.client(token=secret))
    await watching.synced()
    await service.app.db.write(tokens.revoke, secret[-8:])
    await ended(watching.call, Code.UNAUTHENTICATED, "UNAUTHENTICATED")
    record = await service.last_record("principal", "method", "outcome", "reason")
    assert record == (f"token:{secret[-8:]}", "/nofx_grpc.v1.Watch/Watch", "DENIED", "UNAUTHENTICATED")


async def test_streams_end_at_once_with_the_server(service: RunningService) -> None:
    watching = [Watching(service.client()) for _ in range(3)]
    for one in watching:
        await one.synced()
    stopping = asyncio.create_task(service.app.server.stop(grace_seconds=3600))
    for one in watching:
        refusal = await ended(one.call, Code.UNAVAILABLE, "SHUTTING_DOWN")
        assert refusal.retry_seconds
    await asyncio.wait_for(stopping, SECONDS)
    assert service.app.feed.readers == 0


async def test_a_stream_that_is_ended_while_its_first_answer_leaves_is_told_why(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    responses = watch._responses

    def ended_now(*arguments: Any) -> Any:
        asyncio.get_running_loop().call_soon(service.app.gate.streams.stop)
        return responses(*arguments)

    monkeypatch.setattr(watch, "_responses", ended_now)
    await ended(Watching(service.client()).call, Code.UNAVAILABLE, "SHUTTING_DOWN")


async def test_a_slow_reader_is_told_where_to_resume_and_nobody_else_waits(tmp_path: Path) -> None:
    async with running_service(tmp_path, env={"NOFX_GRPC_WATCH_QUEUE_REVISIONS": "10"}) as service:
        trader, client = await make_trader(service), service.client()
        slow, fast = Watching(service.client()), Watching(service.client())
        await slow.synced(), await fast.synced()
        for number in range(300):  # together too much for what lies between server and client
            changed = pb.Trader(user_id=trader.user_id, id=trader.id, custom_prompt=f"{number} " + "x" * 65_000)
            await client.traders.UpdateTrader(pb.UpdateTraderRequest(trader=changed))
            await fast.changes()
        last = fast.last.revision
        assert last == await service.revision()
        seen = 0
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while True:
                seen = (await slow.next()).revision
        refusal = refusal_of(caught.value)
        assert (refusal.code, refusal.reason) == (Code.RESOURCE_EXHAUSTED, "SLOW_READER")
        assert refusal.metadata["resume_revision"] == str(seen)
        resumed = Watching(service.client(), start_revision=seen, history_id=service.app.db.history_id)
        assert (await resumed.changes()).revision == seen + 1
        assert await resumed.synced() == last
