"""How a server ends: what is told to whom, what may still end, and what is left on disk."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from nofx_grpc.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    beta_codes_pb2,
    beta_codes_pb2_grpc,
    exchanges_pb2,
    exchanges_pb2_grpc,
)
from tests.support.postgresql import database_of, shared_server
from tests.support.processes import ServerProcess, environment, serving
from tests.support.service import new_postgresql

pytestmark = pytest.mark.e2e

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with serving(environment(tmp_path / "data", shutdown_grace_seconds="5"), tmp_path / "log") as running:
        yield running


class SlowImport:
    """An import of beta codes that is in flight until it is told to end."""

    def __init__(self, channel: grpc.aio.Channel, server: ServerProcess) -> None:
        self.begun, self._end = asyncio.Event(), asyncio.Event()
        stub: Any = beta_codes_pb2_grpc.BetaCodesStub(channel)
        self.call = stub.ImportBetaCodes(self._requests(), metadata=server.authorization())

    async def _requests(self) -> AsyncIterator[beta_codes_pb2.ImportBetaCodesRequest]:
        yield beta_codes_pb2.ImportBetaCodesRequest(data=b"first-code\n")
        self.begun.set()
        await self._end.wait()
        yield beta_codes_pb2.ImportBetaCodesRequest(data=b"second-code\n")

    async def end(self) -> beta_codes_pb2.ImportBetaCodesResponse:
        self._end.set()
        answer: beta_codes_pb2.ImportBetaCodesResponse = await self.call
        return answer


async def in_flight(channel: grpc.aio.Channel, server: ServerProcess) -> SlowImport:
    slow = SlowImport(channel, server)
    await slow.begun.wait()
    await asyncio.sleep(0.3)  # begun here: give it the time to begin there
    return slow


def files(server: ServerProcess) -> set[str]:
    return {path.name for path in server.data_dir.iterdir()}


async def test_calls_in_flight_end_and_no_new_ones_begin(server: ServerProcess) -> None:
    async with server.channel() as channel, server.channel() as other:
        stub: Any = exchanges_pb2_grpc.ExchangesStub(other)
        request = exchanges_pb2.ListSupportedExchangesRequest()
        await stub.ListSupportedExchanges(request, metadata=server.authorization())
        slow = await in_flight(channel, server)
        watch: Any = health_pb2_grpc.HealthStub(channel)
        told = watch.Watch(health_pb2.HealthCheckRequest())
        assert (await told.read()).status == SERVING
        server.signal()
        assert (await told.read()).status == NOT_SERVING
        assert await told.read() == grpc.aio.EOF
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ListSupportedExchanges(request, metadata=server.authorization())
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        assert server.process.poll() is None
        assert (await slow.end()).imported_count == 2
    assert await asyncio.to_thread(server.wait) == 0
    assert not files(server) & {"nofx.db-wal", "nofx.db-shm"}
    events = [json.loads(line)["event"] for line in server.log.read_text().splitlines()]
    assert events == ["serving", "signal", "draining", "stopped"]


async def test_what_does_not_end_within_the_grace_is_cut_off(tmp_path: Path) -> None:
    env = environment(tmp_path / "data", shutdown_grace_seconds="0.2")
    with serving(env, tmp_path / "log") as server:
        async with server.channel() as channel:
            slow = await in_flight(channel, server)
            server.signal(signal.SIGINT)
            assert await asyncio.to_thread(server.wait) == 0
            with pytest.raises(grpc.aio.AioRpcError):
                await slow.end()
        assert not files(server) & {"nofx.db-wal", "nofx.db-shm"}


async def test_a_database_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    serve = "from nofx_grpc import lifecycle; lifecycle.LAST_SECONDS = 1; from nofx_grpc.cli.main import main; main()"
    with new_postgresql(tmp_path / "data") as settings:
        env, database = environment(tmp_path / "data") | settings, database_of(settings["NOFX_GRPC_DATABASE_URL"])
        with serving(env, tmp_path / "log", (sys.executable, "-c", serve)) as server:
            sessions = shared_server().execute(f"SELECT pid FROM pg_stat_activity WHERE datname = '{database}'")  # noqa: S608  # a name of ours
            for (pid,) in sessions:
                os.kill(pid, signal.SIGSTOP)
            try:
                server.signal()
                assert await asyncio.to_thread(server.wait) == 1
            finally:
                for (pid,) in sessions:
                    os.kill(pid, signal.SIGCONT)
    assert '"event": "not_closed"' in server.log.read_text()


async def test_a_second_signal_ends_the_server_at_once(server: ServerProcess) -> None:
    async with server.channel() as channel:
        await in_flight(channel, server)
        server.signal()
        await asyncio.sleep(0.3)
        assert server.process.poll() is None
        server.signal()
        assert await asyncio.to_thread(server.wait) == 128 + signal.SIGTERM


async def test_when_a_token_was_used_is_known_after_the_end(server: ServerProcess) -> None:
    async with server.channel() as channel:
        stub: Any = exchanges_pb2_grpc.ExchangesStub(channel)
        request = exchanges_pb2.ListSupportedExchangesRequest()
        await stub.ListSupportedExchanges(request, metadata=server.authorization("viewer"))
    assert await asyncio.to_thread(server.stop) == 0
    with serving(server.env, server.log) as again:
        async with again.channel() as channel:
            admin: Any = admin_pb2_grpc.AdminStub(channel)
            listed = await admin.ListTokens(admin_pb2.ListTokensRequest(), metadata=again.authorization())
    used = {token.id for token in listed.tokens if token.HasField("last_use_time")}
    assert used == {"bootstrap-viewer"}
