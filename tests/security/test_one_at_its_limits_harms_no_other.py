"""Calls, streams and reveals of each principal are limited, and a principal at its limit leaves room for others."""

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from nofx_grpc.errors import RateLimited
from nofx_grpc.rpc import usage
from nofx_grpc.rpc.usage import UsageLimits, Usages
from nofx_grpc.store import beta_codes
from nofx_grpc.store.beta_codes import Stats
from nofx_grpc.v1 import beta_codes_pb2, exchanges_pb2, system_config_pb2, traders_pb2, watch_pb2
from tests.attack.wire import DATA, END_STREAM, INITIAL_WINDOW, Wire, frame, message, setting
from tests.support.service import RunningService, refusal_of, refused, running_service
from tests.support.watching import Watching, create_exchange, named, until

WATCH = "/nofx_grpc.v1.Watch/Watch"
LIMITED = (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
BINANCE = exchanges_pb2.GetExchangeRequest(user_id="default", id="binance")
JWT = system_config_pb2.AccessSystemSecretRequest(key="jwt_secret")


async def test_streams_of_one_principal(tmp_path: Path, database_env: dict[str, str]) -> None:
    env = database_env | {"NOFX_GRPC_MAX_STREAMS_PER_PRINCIPAL": "2"}
    async with running_service(tmp_path / "data", env=env) as service:
        viewer, engine = service.client("viewer"), service.client("engine")
        streams = [viewer.watch.Watch(watch_pb2.WatchRequest()) for _ in range(2)]
        for stream in streams:
            await stream.read()
        refusal = await refused(viewer.watch.Watch(watch_pb2.WatchRequest()).read(), *LIMITED)
        assert refusal.metadata == {"limit": "streams_in_flight"} and refusal.retry_seconds == 1
        await viewer.exchanges.GetExchange(BINANCE)
        other = engine.watch.Watch(watch_pb2.WatchRequest())
        await other.read()
        streams.pop().cancel()
        async with asyncio.timeout(30):
            while await _is_refused(service):
                pass


async def test_calls_that_wait_for_a_revision(tmp_path: Path) -> None:
    """They count before they are looked at."""
    async with running_service(tmp_path / "data", env={"NOFX_GRPC_MAX_CALLS_PER_PRINCIPAL": "2"}) as service:
        waiting = service.client("viewer", **{"nofx-min-revision": "999999"}).exchanges
        calls = [asyncio.ensure_future(waiting.GetExchange(BINANCE)) for _ in range(3)]
        done, others = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert len(done) == 1
        refusal = await refused(done.pop(), *LIMITED)
        assert refusal.metadata == {"limit": "calls_in_flight"}
        await service.client("engine").exchanges.GetExchange(BINANCE)
        for other in others:
            await refused(other, grpc.StatusCode.UNAVAILABLE, "REVISION_NOT_REACHED")


async def test_streams_of_reflection(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data", env={"NOFX_GRPC_MAX_STREAMS_PER_PRINCIPAL": "1"}) as service:
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        metadata = (("authorization", f"Bearer {service.token('viewer')}"),)
        reflected: Any = reflection_pb2_grpc.ServerReflectionStub(service.anonymous().channel)
        stream = reflected.ServerReflectionInfo(metadata=metadata)
        await stream.write(asked)
        await stream.read()
        refusal = await refused(reflected.ServerReflectionInfo(metadata=metadata).read(), *LIMITED)
        assert refusal.metadata == {"limit": "streams_in_flight"}
        await service.client("viewer").exchanges.GetExchange(BINANCE)
        stream.cancel()


async def test_a_stream_of_reflection_that_asks_nothing_more(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data", env={"NOFX_GRPC_MAX_REQUEST_SECONDS": "1"}) as service:
        metadata = (("authorization", f"Bearer {service.token('viewer')}"),)
        reflected: Any = reflection_pb2_grpc.ServerReflectionStub(service.anonymous().channel)
        stream = reflected.ServerReflectionInfo(metadata=metadata)
        await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        assert (await stream.read()).list_services_response.service
        async with asyncio.timeout(30):
            await refused(stream.read(), grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")


async def test_reveals_of_one_principal(tmp_path: Path, database_env: dict[str, str]) -> None:
    env = database_env | {"NOFX_GRPC_REVEALS_PER_SECOND": "1", "NOFX_GRPC_REVEALS_AT_ONCE": "3"}
    async with running_service(tmp_path / "data", env=env) as service:
        one, other = [service.client(token=await service.make_token("gateway")) for _ in range(2)]
        calls = (one.system_config.AccessSystemSecret(JWT) for _ in range(200))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        refusals = [refusal_of(each) for each in outcomes if isinstance(each, grpc.aio.AioRpcError)]
        assert 3 <= len(outcomes) - len(refusals) < 200
        assert {(each.code, each.reason, each.metadata["limit"]) for each in refusals} == {(*LIMITED, "reveals")}
        assert all(each.retry_seconds and each.retry_seconds <= 1 for each in refusals)
        await other.system_config.AccessSystemSecret(JWT)
        await one.exchanges.GetExchange(BINANCE)


async def test_reads_that_take_long(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for hundreds of them waits for the first ones; others, and its own short ones, do not."""
    viewer, engine, read = service.client("viewer"), service.client("engine"), []

    def takes_long(_: Any) -> Any:
        time.sleep(0.02)
        read.append(1)
        return Stats(0, 0)

    monkeypatch.setattr(beta_codes, "count", takes_long)
    stats = beta_codes_pb2.GetBetaCodeStatsRequest()
    calls = [asyncio.ensure_future(viewer.beta_codes.GetBetaCodeStats(stats)) for _ in range(100)]
    await until(lambda: service.app.gate.usages._calls + len(read) >= len(calls))
    assert service.app.db._scanners._work_queue.qsize() < 10
    await viewer.exchanges.GetExchange(BINANCE)
    await engine.traders.ListTraders(traders_pb2.ListTradersRequest())
    assert len(await asyncio.gather(*calls)) == len(read) == 100


def test_calls_are_counted_until_they_end() -> None:
    usages = Usages(UsageLimits(calls=2, calls_of_all=3))
    first, _ = [usages.begin("a", stream=False) for _ in range(2)]
    assert _limit(usages, "a") == "calls_in_flight"
    other = usages.begin("b", stream=False)
    assert _limit(usages, "b") == "calls_of_all"
    first.end()
    usages.begin("b", stream=False)
    other.end()
    usages.begin("a", stream=False)


def test_an_answer_is_counted_until_it_has_been_taken() -> None:
    usages = Usages(UsageLimits(unread_bytes=10))
    first = usages.begin("a", stream=False)
    first.answered(9)
    usages.begin("a", stream=False).answered(20)
    assert _limit(usages, "a") == "answers_not_read"
    usages.begin("b", stream=False)
    first.end()
    assert _limit(usages, "a") == "answers_not_read"


async def test_answers_that_are_ready_together_and_never_read(service: RunningService) -> None:
    """The first is held; those that change nothing are refused after it, and those that do are done."""
    service.app.gate.usages = Usages(UsageLimits(unread_bytes=1))
    names = [f"e{number}" for number in range(3)]
    exchange = exchanges_pb2.Exchange(name="E", type="cex")
    creates = [exchanges_pb2.CreateExchangeRequest(user_id="default", exchange_id=n, exchange=exchange) for n in names]
    calls = [("GetExchange", BINANCE)] * 10 + [("CreateExchange", create) for create in creates]

    def said() -> bytes:
        with Wire(service.address, setting(INITIAL_WINDOW, 0)) as one:
            begun = [(one.begin(f"/nofx_grpc.v1.Exchanges/{name}", service.token("admin")), raw) for name, raw in calls]
            while service.app.gate.usages._calls < len(begun):
                time.sleep(0.02)
            for stream, request in begun:
                one.send(frame(DATA, END_STREAM, stream, message(request.SerializeToString())))
            return one.answer()

    assert (await asyncio.to_thread(said)).count(b"bytes of answers to read") in (9, 10)
    rows = await service.rows("SELECT id FROM exchanges WHERE id LIKE 'e_' ORDER BY id")
    assert [name for (name,) in rows] == names


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_streams_that_are_never_read(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is held, and the others are refused; calls of the same principal, and streams of others, are answered."""
    monkeypatch.setattr(usage, "ROOM_SECONDS", 0.2)
    service.app.gate.usages = Usages(UsageLimits(unread_bytes=1))
    request = watch_pb2.WatchRequest(send_initial_state=True).SerializeToString()
    with Wire(service.address, setting(INITIAL_WINDOW, 0)) as one:
        for _ in range(5):
            one.call(WATCH, request, service.token("viewer"))
        said = await asyncio.to_thread(one.answer, 2)
        assert said.count(b"bytes of responses of streams to read") == 4
        await service.client("viewer").exchanges.GetExchange(BINANCE)
        await Watching(service.client("engine"), send_initial_state=True).synced()
        held = service.app.gate.usages._of["token:bootstrap-viewer"]
        assert held.streamed > 0
    await until(lambda: not held.streams)
    assert held.streamed == 0


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_streams_that_are_read_wait_for_each_other(service: RunningService) -> None:
    """Both are told of each change at one moment, and together they may hold one response."""
    service.app.gate.usages = Usages(UsageLimits(unread_bytes=1))
    streams = [Watching(service.client("viewer")) for _ in range(2)]
    for stream in streams:
        await stream.synced()
    for number in range(20):
        await create_exchange(service.client(), f"e{number}")
    for stream in streams:
        assert [named(await stream.changes()) for _ in range(20)] == [[f"CREATE default/e{n}"] for n in range(20)]


async def test_a_response_is_counted_until_it_has_been_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    usages = Usages(UsageLimits(unread_bytes=10), lambda: now[0])
    first, second, third, other = [usages.begin(name, stream=True) for name in "aaab"]
    await first.sending(20)
    await other.sending(20)
    waits = asyncio.create_task(second.sending(10))
    await asyncio.sleep(0)
    with pytest.raises(RateLimited, match="20 bytes of responses"):
        await third.sending(1)
    first.sent()
    await asyncio.wait_for(waits, 30)
    waits = asyncio.create_task(third.sending(1))
    await asyncio.sleep(0)
    now[0] += usage.ROOM_SECONDS
    with pytest.raises(RateLimited) as caught:
        await waits
    assert caught.value.metadata == {"limit": "streams_not_read"}
    second.end()  # cut short: held until gRPC is done with it
    await third.sending(1)
    assert usages._of["a"].waiting == 0 and usages._of["a"].streamed == 1


def test_reveals_come_back_in_time_up_to_those_at_once() -> None:
    now = [0.0]
    call = Usages(UsageLimits(reveals_per_second=2, reveals_at_once=3), lambda: now[0]).begin("a", stream=False)

    def reveals() -> int:
        for done in range(100):
            try:
                call.reveal()
            except RateLimited as error:
                assert 0 < error.retry_after <= 0.5
                return done
        return 100

    assert reveals() == 3
    now[0] += 0.5
    assert reveals() == 1
    now[0] += 3600
    assert reveals() == 3


def _limit(usages: Usages, principal: str) -> str:
    """Which limit refuses a principal."""
    with pytest.raises(RateLimited) as caught:
        usages.begin(principal, stream=False)
    return caught.value.metadata["limit"]


async def _is_refused(service: RunningService) -> bool:
    stream = service.client("viewer").watch.Watch(watch_pb2.WatchRequest())
    try:
        await stream.read()
    except grpc.aio.AioRpcError as error:
        assert refusal_of(error).reason == "RATE_LIMITED"
        return True
    return False
