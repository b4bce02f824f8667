"""The server itself: how many calls, how large, how long a connection is left alone; health."""

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from nofx_grpc.app import server_options
from nofx_grpc.errors import StartError
from nofx_grpc.rpc import health
from nofx_grpc.rpc.listening import affordable_connections, check_free, socket_lock
from nofx_grpc.rpc.server import ServerOptions, channel_options
from nofx_grpc.settings import Settings
from nofx_grpc.v1 import beta_codes_pb2, exchanges_pb2, traders_pb2, watch_pb2
from tests.attack.wire import INITIAL_WINDOW, Wire, setting
from tests.support.proxy import proxy_to
from tests.support.service import Client, RunningService, refused, running_service
from tests.support.watching import Watching, until

WATCH = "/nofx_grpc.v1.Watch/Watch"
Code = grpc.StatusCode
Status = health_pb2.HealthCheckResponse


def watch(service: RunningService, name: str = "") -> Any:
    stub: Any = health_pb2_grpc.HealthStub(service.anonymous().channel)
    return stub.Watch(health_pb2.HealthCheckRequest(service=name))


async def test_more_calls_than_may_be_in_progress_are_refused(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def stalled() -> AsyncIterator[beta_codes_pb2.ImportBetaCodesRequest]:
        await ended.wait()
        yield beta_codes_pb2.ImportBetaCodesRequest(data=b"code")

    async with running_service(tmp_path, env={"NOFX_GRPC_MAX_CONCURRENT_RPCS": "1"}) as service:
        client = service.client()
        request = exchanges_pb2.ListSupportedExchangesRequest()
        await client.exchanges.ListSupportedExchanges(request)
        slow = client.beta_codes.ImportBetaCodes(stalled())
        await asyncio.sleep(0.1)
        other = service.client("viewer").exchanges.ListSupportedExchanges(request)
        refusal = await refused(other, Code.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        assert refusal.metadata == {"limit": "calls_of_all"} and refusal.retry_seconds == 1
        ended.set()
        await slow


def test_the_settings_become_the_options_of_grpc() -> None:
    env = {
        "NOFX_GRPC_MAX_CONCURRENT_RPCS": "10",
        "NOFX_GRPC_MAX_CONNECTIONS": "7",
        "NOFX_GRPC_MAX_REQUEST_BYTES": "2048",
        "NOFX_GRPC_KEEPALIVE_SECONDS": "11.5",
        "NOFX_GRPC_KEEPALIVE_TIMEOUT_SECONDS": "12",
        "NOFX_GRPC_KEEPALIVE_MIN_PING_SECONDS": "13",
        "NOFX_GRPC_MAX_CONNECTION_AGE_SECONDS": "14",
    }
    options = dict(channel_options(server_options(Settings.load(None, env))))
    assert options == {
        "grpc.max_concurrent_streams": 110,
        "grpc.server.max_pending_requests": 10_000,
        "grpc.server.max_pending_requests_hard_limit": 20_000,
        "grpc.server_handshake_timeout_ms": 12_000,
        "grpc.max_allowed_incoming_connections": 7,
        "grpc.http2.bdp_probe": 0,
        "grpc.max_receive_message_length": 2048 + 1024 * 1024,
        "grpc.so_reuseport": 0,
        "grpc.keepalive_time_ms": 11_500,
        "grpc.keepalive_timeout_ms": 12_000,
        "grpc.http2.ping_timeout_ms": 12_000,
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.http2.min_ping_interval_without_data_ms": 13_000,
        "grpc.max_connection_age_ms": 14_000,
    }


@pytest.mark.parametrize(
    ("soft", "hard", "listeners", "left", "raised_to"),
    [
        (256, 4096, 1, 1000, 1200),
        (256, 4096, 2, 1000, 2200),
        (4096, 4096, 1, 1000, None),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 2, 1000, None),
        (256, resource.RLIM_INFINITY, 1, 1000, 1200),
        (256, 1000, 1, 800, 1000),
        (256, 1000, 2, 400, 1000),
        (64, 64, 1, 1, 64),
    ],
)
def test_connections_leave_files_for_the_server(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, listeners: int, left: int, raised_to: int | None
) -> None:
    raised: list[int] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: raised.append(limits[0]))
    assert affordable_connections(1000, listeners) == left
    assert raised == ([] if raised_to is None else [raised_to])


def test_a_port_is_shared_among_workers_only() -> None:
    options = channel_options(server_options(Settings.load(None, {"NOFX_GRPC_WORKERS": "2"})))
    assert dict(options)["grpc.so_reuseport"] == 1


def test_the_defaults_agree_with_those_of_the_settings() -> None:
    settings = Settings.load(None, {})
    assert server_options(settings) == ServerOptions(settings.listen)


async def test_an_old_connection_takes_no_new_calls_and_those_in_progress_go_on(tmp_path: Path) -> None:
    async with running_service(tmp_path, env={"NOFX_GRPC_MAX_CONNECTION_AGE_SECONDS": "1"}) as service:
        client = service.client("viewer")
        stream: Any = client.watch.Watch(watch_pb2.WatchRequest())
        assert (await stream.read()).synced
        refused_and_recorded = traders_pb2.GetTraderConfigRequest(user_id="default", trader_id="nobody")
        async with asyncio.timeout(60):
            while len(await service.rows("SELECT DISTINCT peer FROM audit_log WHERE outcome = 'DENIED'")) < 2:
                with pytest.raises(grpc.aio.AioRpcError, match="needs the permission REVEAL"):
                    await client.traders.GetTraderConfig(refused_and_recorded)
                await asyncio.sleep(0.1)
        await service.add_users("ada")
        assert (await stream.read()).changes


@pytest.mark.slow
async def test_a_client_that_falls_silent_is_given_up(tmp_path: Path) -> None:
    env = {"NOFX_GRPC_KEEPALIVE_SECONDS": "1", "NOFX_GRPC_KEEPALIVE_TIMEOUT_SECONDS": "1"}
    async with running_service(tmp_path, env=env) as service, proxy_to(lambda: service.address) as proxy:
        silent = Client(proxy.address, service.token("viewer"))
        watching = Watching(silent)
        await watching.synced()
        await asyncio.sleep(4)  # quiet for more pings than gRPC sends without data by default
        assert service.app.feed.readers == 1
        proxy.silence()
        async with asyncio.timeout(45):  # gRPC's own time-out is a minute
            while service.app.feed.readers:  # noqa: ASYNC110 - what is waited for tells nobody
                await asyncio.sleep(0.1)
        await silent.close()


# ---- health


async def test_a_watch_of_an_unknown_service_says_so(service: RunningService) -> None:
    assert (await watch(service, "nofx_grpc.v1.Nothing").read()).status == Status.SERVICE_UNKNOWN


async def test_a_check_of_an_unknown_service_is_refused(service: RunningService) -> None:
    stub: Any = health_pb2_grpc.HealthStub(service.anonymous().channel)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Check(health_pb2.HealthCheckRequest(service="nofx_grpc.v1.Nothing"))
    assert refused.value.code() == Code.NOT_FOUND


@pytest.mark.parametrize("rpc", ["Check", "Watch"])
async def test_health_reads_no_long_question(service: RunningService, rpc: str) -> None:
    ask: Any = service.anonymous().channel.stream_stream(f"/grpc.health.v1.Health/{rpc}")
    for size, code in ((1024, Code.INVALID_ARGUMENT), (1026, Code.RESOURCE_EXHAUSTED)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(iter([b"\xff" + bytes(size - 1)])).read()
        assert caught.value.code() is code


async def test_bytes_that_are_no_question_are_refused(service: RunningService) -> None:
    check: Any = service.anonymous().channel.unary_unary("/grpc.health.v1.Health/Check")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await check(b"\xff")
    assert refused.value.code() == Code.INVALID_ARGUMENT


async def test_strangers_cannot_take_every_watch(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    """One connection has them all, and one more of it is refused; every other has one, and one only."""
    monkeypatch.setattr(health, "MOST_WATCHES", 2)
    monkeypatch.setattr(health, "MANY_WATCHES", 2)
    stranger, others = service.anonymous(), [service.anonymous() for _ in range(3)]

    def watch_by(client: Client) -> Any:
        stub: Any = health_pb2_grpc.HealthStub(client.channel)
        return stub.Watch(health_pb2.HealthCheckRequest())

    first, second = watch_by(stranger), watch_by(stranger)
    assert [(await call.read()).status for call in (first, second)] == [Status.SERVING] * 2
    assert await watch_by(stranger).code() == Code.RESOURCE_EXHAUSTED
    assert [(await watch_by(client).read()).status for client in others] == [Status.SERVING] * 3
    assert await watch_by(others[0]).code() == Code.RESOURCE_EXHAUSTED
    for call in (first, second):
        call.cancel()
    await until(lambda: service.app.server._health.watches.total == 3)
    assert await watch_by(stranger).read()


async def test_checks_whose_answers_nobody_reads(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    """One connection is refused more of them; another is answered, and so is the first when it has gone and come."""
    monkeypatch.setattr(health, "MOST_CHECKS", 2)

    def said() -> bytes:
        with Wire(service.address, setting(INITIAL_WINDOW, 0)) as one:
            for _ in range(5):
                one.call("/grpc.health.v1.Health/Check")
            return one.answer()

    assert (await asyncio.to_thread(said)).count(b"answers to read already") == 3
    stub: Any = health_pb2_grpc.HealthStub(service.anonymous().channel)
    for _ in range(5):
        assert (await stub.Check(health_pb2.HealthCheckRequest())).status == Status.SERVING


async def test_where_many_check_each_connection_has_one(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are of all, a connection that comes then is answered."""
    monkeypatch.setattr(health, "MANY_CHECKS", 4)

    def said() -> list[int]:
        with ExitStack() as stack:
            wires = [stack.enter_context(Wire(service.address, setting(INITIAL_WINDOW, 0))) for _ in range(3)]
            for wire in wires:
                for _ in range(3):
                    wire.call("/grpc.health.v1.Health/Check")
                wire.answer(0.5)
            wires[0].call("/grpc.health.v1.Health/Check")
            return [service.app.server._health.checks.total, wires[0].answer().count(b"has 1 answers")]

    # Three of the first, one of the second until there are four, and one of the third.
    assert await asyncio.to_thread(said) == [5, 1]


@pytest.mark.parametrize("engine", ["sqlite"])
@pytest.mark.parametrize("path", ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", WATCH])
async def test_what_nobody_reads_does_not_hold_up_the_end(service: RunningService, path: str) -> None:
    """A call with work in it does, as long as it takes."""
    with Wire(service.address, setting(INITIAL_WINDOW, 0)) as one:
        one.call(path, token=service.token("viewer"))
        await asyncio.to_thread(one.answer)
        slow: Any = service.client().beta_codes.ImportBetaCodes()
        await slow.write(beta_codes_pb2.ImportBetaCodesRequest(data=b"code\n"))
        await until(lambda: any(stream.has_end for stream in service.app.gate.streams._open))
        stopping = asyncio.create_task(service.app.server.stop(3600))
        await asyncio.sleep(0.5)
        assert not stopping.done()
        await slow.done_writing()
        assert (await slow).imported_count == 1
        await asyncio.wait_for(stopping, 15)  # after 20 gRPC gives up a connection that answers no ping, as this one


async def test_a_watch_ends_with_the_server(service: RunningService) -> None:
    call = watch(service)
    assert (await call.read()).status == Status.SERVING
    stopping = asyncio.create_task(service.app.server.stop(30))
    assert (await call.read()).status == Status.NOT_SERVING
    assert await call.read() == grpc.aio.EOF
    await asyncio.wait_for(stopping, 5)


# ---- the address


async def test_an_address_that_somebody_listens_on(service: RunningService) -> None:
    with pytest.raises(StartError, match="another server is running there"):
        await check_free(service.address)


async def test_a_name_of_which_one_address_is_taken(service: RunningService) -> None:
    port = service.address.rpartition(":")[2]
    with pytest.raises(StartError, match="another server is running there"):
        await check_free(f"localhost:{port}")


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "unix:/nonexistent/socket", "127.0.0.1:1"])
async def test_an_address_that_is_free(address: str) -> None:
    await check_free(address)


def test_of_two_servers_on_a_socket_only_one_holds_the_lock(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/s"
    with socket_lock(address), pytest.raises(StartError, match="another server is running there"), socket_lock(address):
        pass
    with socket_lock(address):
        pass


def test_a_socket_in_a_directory_that_does_not_exist() -> None:
    with (
        pytest.raises(StartError, match="cannot listen on unix:/nonexistent/s: No such file"),
        socket_lock("unix:/nonexistent/s"),
    ):
        pass
