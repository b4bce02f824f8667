"""A token that is revoked, or has expired, ends in every process within a second, with every stream that it began."""

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from nofx_grpc.rpc import streams
from nofx_grpc.store import tokens
from nofx_grpc.v1 import admin_pb2, beta_codes_pb2, common_pb2, exchanges_pb2, watch_pb2
from tests.support.clock import FakeClock
from tests.support.processes import ServerProcess, environment, serving
from tests.support.service import Client, RunningService, refused
from tests.support.watching import Watching, create_exchange, ended, until

Code = grpc.StatusCode

BINANCE = exchanges_pb2.GetExchangeRequest(user_id="default", id="binance")
SECONDS = 30.0
LATE: dict[str, Any] = {
    "Exchanges/GetExchange": BINANCE,
    "Watch/Watch": watch_pb2.WatchRequest(),
}


async def made(client: Client, **fields: Any) -> admin_pb2.Token:
    values: dict[str, Any] = {"display_name": "test", "role": common_pb2.ROLE_VIEWER} | fields
    token = admin_pb2.Token(**values)
    return await client.admin.CreateToken(admin_pb2.CreateTokenRequest(token=token))


async def revoke(client: Client, id: str) -> None:
    await client.admin.RevokeToken(admin_pb2.RevokeTokenRequest(id=id))


async def refused_soon(client: Client) -> str:
    """Call until the token is refused; the text."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                await client.exchanges.GetExchange(BINANCE)
            except grpc.aio.AioRpcError as error:
                assert error.code() is Code.UNAUTHENTICATED
                return error.details() or ""
            await asyncio.sleep(0.02)


def clients_of(servers: list[ServerProcess], token: str) -> list[Client]:
    return [Client(server.address, token) for server in servers]


# ---- in every process: real servers on one database


@pytest.mark.e2e
async def test_in_two_servers_on_one_database(tmp_path: Path, database_env: dict[str, str]) -> None:
    env = environment(tmp_path / "data") | database_env
    with serving(env, tmp_path / "log1") as one, serving(env, tmp_path / "log2") as two:
        admins = clients_of([one, two], one.token("admin"))
        kept, gone = [await made(admins[0], display_name=name) for name in ("kept", "gone")]
        keeping, going = clients_of([one, two], kept.secret), clients_of([one, two], gone.secret)
        # Several tokens are good at one time, so that one is replaced before it goes.
        watching = [Watching(client) for client in (*going, *keeping)]
        for each in watching:
            await each.synced()
        await revoke(admins[1], gone.id)
        for each in watching[:2]:
            refusal = await ended(each.call, Code.UNAUTHENTICATED, "UNAUTHENTICATED")
            assert refusal.text == "the token was revoked"
        assert [await refused_soon(client) for client in going] == ["the token was revoked"] * 2
        for client in keeping:
            assert (await client.exchanges.GetExchange(BINANCE)).id == "binance"
        await create_exchange(admins[0], "okx")
        assert [(await each.changes()).changes[0].id for each in watching[2:]] == ["okx", "okx"]
        for client in (*admins, *keeping, *going):
            await client.close()


@pytest.mark.e2e
async def test_a_token_expires_in_two_servers(tmp_path: Path, database_env: dict[str, str]) -> None:
    env = environment(tmp_path / "data") | database_env
    with serving(env, tmp_path / "log1") as one, serving(env, tmp_path / "log2") as two:
        (admin,) = clients_of([one], one.token("admin"))
        token = await made(admin)
        await admin.close()
        short = await _expiring(one, seconds=4)
        clients = clients_of([one, two], short.secret)
        watching = [Watching(client) for client in clients]
        for each in watching:
            await each.synced()
        for each in watching:
            assert (await ended(each.call, Code.UNAUTHENTICATED, "UNAUTHENTICATED")).text == "the token has expired"
        assert [await refused_soon(client) for client in clients] == ["the token has expired"] * 2
        (still,) = clients_of([two], token.secret)
        assert (await still.exchanges.GetExchange(BINANCE)).id == "binance"
        for client in (*clients, still):
            await client.close()


async def _expiring(server: ServerProcess, seconds: float) -> admin_pb2.Token:
    (admin,) = clients_of([server], server.token("admin"))
    token = admin_pb2.Token(display_name="short", role=common_pb2.ROLE_VIEWER)
    token.expire_time.GetCurrentTime()
    token.expire_time.FromNanoseconds(token.expire_time.ToNanoseconds() + int(seconds * 1e9))
    created = await admin.admin.CreateToken(admin_pb2.CreateTokenRequest(token=token))
    await admin.close()
    return created


# ---- whatever it has begun


def test_open_streams_are_asked_for_more_than_once_a_second() -> None:
    """That one round of questions is enough for all of them, however many: see `tests/rpc/test_open_streams.py`."""
    assert streams.PERIOD_SECONDS < 1


async def test_an_upload(service: RunningService) -> None:
    """The second half of a file of codes does not come in by a token that was revoked after the first."""
    secret = await service.make_token("admin")
    call: Any = service.client(token=secret).beta_codes.ImportBetaCodes()
    await call.write(beta_codes_pb2.ImportBetaCodesRequest(data=b"AAAAAA\n" * 10))
    await until(lambda: len(service.app.gate.streams))
    await service.app.db.write(tokens.revoke, secret[-8:])
    refusal = await refused(_drained(call), Code.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert refusal.text == "the token was revoked"
    assert await service.rows("SELECT count(*) FROM beta_codes") == [(0,)]
    record = await service.last_record("principal", "method", "outcome", "reason")
    assert record == (f"token:{secret[-8:]}", "/nofx_grpc.v1.BetaCodes/ImportBetaCodes", "DENIED", "UNAUTHENTICATED")


async def _drained(call: Any) -> Any:
    return await asyncio.wait_for(call, SECONDS)


async def test_reflection(service: RunningService) -> None:
    secret = await service.make_token("viewer")
    release = asyncio.Event()

    async def asked() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        await release.wait()

    stub: Any = reflection_pb2_grpc.ServerReflectionStub(service.anonymous().channel)
    call = stub.ServerReflectionInfo(asked(), metadata=(("authorization", f"Bearer {secret}"),))
    assert (await call.read()).list_services_response.service
    await service.app.db.write(tokens.revoke, secret[-8:])
    await ended(call, Code.UNAUTHENTICATED, "UNAUTHENTICATED")
    release.set()


async def test_a_call_that_waits_for_a_revision(service: RunningService) -> None:
    """It is answered after the wait, which may be long; so it is asked then who it is from."""
    secret = await service.make_token("viewer")
    waiting = service.client(token=secret, **{"nofx-min-revision": str(await service.revision() + 1)})
    asked = waiting.exchanges.GetExchange(BINANCE)
    call = asyncio.ensure_future(refused(asked, Code.UNAUTHENTICATED, "UNAUTHENTICATED"))
    await asyncio.sleep(0.1)
    await service.app.db.write(tokens.revoke, secret[-8:])
    await asyncio.sleep(1.1)  # as long as a token is remembered
    assert not call.done()
    await create_exchange(service.client(), "okx")
    assert (await asyncio.wait_for(call, SECONDS)).text == "the token was revoked"


# ---- and what else is said of tokens


@pytest.mark.parametrize("path", LATE)
async def test_a_request_that_comes_long_after_its_headers(service: RunningService, path: str) -> None:
    token = await made(service.client())
    revoked = asyncio.Event()

    async def late() -> AsyncIterator[bytes]:
        await revoked.wait()
        yield LATE[path].SerializeToString()

    begin: Any = service.anonymous().channel.stream_stream(f"/nofx_grpc.v1.{path}")
    call = begin(late(), metadata=(("authorization", f"Bearer {token.secret}"),))
    async with asyncio.timeout(SECONDS):
        while not service.app.gate.usages._calls:  # noqa: ASYNC110  # nothing tells of a call that has begun
            await asyncio.sleep(0.02)
    await revoke(service.client(), token.id)
    await refused_soon(service.client(token=token.secret))
    revoked.set()
    refusal = await refused(call.read(), Code.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert refusal.text == "the token was revoked"


@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_a_token_that_ends_before_its_turn_makes_none(
    service: RunningService, clock: FakeClock, how: str
) -> None:
    """Whoever revokes it sees all that it has made: nothing that waited to be written comes after."""
    secret = await service.make_token("admin", expires_at=clock() + timedelta(hours=1))
    maker, release = service.client(token=secret), threading.Event()
    await maker.exchanges.GetExchange(BINANCE)
    number = await service.rows("SELECT count(*) FROM tokens")
    blocking = asyncio.ensure_future(service.app.db.write(lambda _: release.wait(30)))
    await asyncio.sleep(0.1)
    ending = asyncio.ensure_future(service.app.db.write(tokens.revoke, secret[-8:])) if how == "revoked" else blocking
    making = asyncio.ensure_future(refused(made(maker), Code.UNAUTHENTICATED, "UNAUTHENTICATED"))
    await until(lambda: service.app.db._writer._queue.qsize() >= (2 if how == "revoked" else 1))
    if how == "expired":
        clock.advance(hours=1)
    release.set()
    await asyncio.gather(blocking, ending)
    assert "meanwhile" in (await making).text
    assert await service.rows("SELECT count(*) FROM tokens") == number


async def test_several_are_good_at_one_time(service: RunningService) -> None:
    admin = service.client()
    old, new = [await made(admin, display_name="engine 1") for _ in range(2)]
    assert old.id != new.id and old.secret != new.secret
    clients = [service.client(token=token.secret) for token in (old, new)]
    for client in clients:
        assert (await client.exchanges.GetExchange(BINANCE)).id == "binance"
    await revoke(admin, old.id)
    assert await refused_soon(clients[0]) == "the token was revoked"
    assert (await clients[1].exchanges.GetExchange(BINANCE)).id == "binance"


async def test_it_is_told_when_each_was_used_last(service: RunningService, clock: FakeClock) -> None:
    admin = service.client()
    used, unused = [await made(admin) for _ in range(2)]
    clock.advance(hours=1)
    await service.client(token=used.secret).exchanges.GetExchange(BINANCE)
    await service.app.housekeeping.note_used_tokens()
    listed = {token.id: token for token in (await admin.admin.ListTokens(admin_pb2.ListTokensRequest())).tokens}
    assert listed[used.id].last_use_time.ToDatetime(clock().tzinfo) == clock()
    assert not listed[unused.id].HasField("last_use_time")


async def test_who_uses_a_revoked_token_is_on_record(service: RunningService, clock: FakeClock) -> None:
    secret = await service.make_token("admin", expires_at=clock() + timedelta(minutes=1))
    clock.advance(minutes=1)
    client = service.client(token=secret)
    await refused(client.exchanges.GetExchange(BINANCE), Code.UNAUTHENTICATED, "UNAUTHENTICATED")
    record = await service.last_record("principal", "outcome", "reason")
    assert record == (f"token:{secret[-8:]}", "DENIED", "UNAUTHENTICATED")
