"""Certificates, authorities and the policy are taken over by a running server when their files change."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from nofx_grpc.v1 import exchanges_pb2
from tests.support.certificates import Authority, MutualTls, Pair, grant, replace_file, spiffe
from tests.support.processes import ServerProcess, environment, run, serving
from tests.support.service import Client, refusal_of
from tests.support.watching import Watching, ended

pytestmark = pytest.mark.e2e

Code = grpc.StatusCode
BINANCE = exchanges_pb2.GetExchangeRequest(user_id="default", id="binance")
SECONDS = 30.0


@pytest.fixture
def mtls(tmp_path: Path) -> MutualTls:
    return MutualTls.made_in(tmp_path)


@pytest.fixture
def server(tmp_path: Path, mtls: MutualTls) -> Iterator[ServerProcess]:
    with serving(environment(tmp_path / "data") | dict(mtls.settings), tmp_path / "log") as running:
        yield running


@asynccontextmanager
async def calling(server: ServerProcess, pair: Pair | None, *trusted: Authority) -> AsyncIterator[Client]:
    """A new connection: to the listener for certificates if there is one, else with a token to the other."""
    ca = b"".join(each.pem for each in trusted)
    tls = grpc.ssl_channel_credentials(ca, pair.key, pair.pem) if pair else grpc.ssl_channel_credentials(ca)
    client = Client(server.mtls_address, None, tls) if pair else Client(server.address, server.token("viewer"), tls)
    try:
        yield client
    finally:
        await client.close()


async def code_of(server: ServerProcess, pair: Pair | None, *trusted: Authority) -> grpc.StatusCode:
    """How a call by a new connection comes out."""
    async with calling(server, pair, *trusted) as client:
        try:
            await client.exchanges.GetExchange(BINANCE, timeout=5)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return Code.OK


async def until(code: grpc.StatusCode, asked: Callable[[], Awaitable[grpc.StatusCode]]) -> None:
    async with asyncio.timeout(SECONDS):
        while await asked() is not code:  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.1)


async def logged(server: ServerProcess, event: str, count: int = 1) -> list[dict[str, str]]:
    """The records of an event, when there are as many."""
    async with asyncio.timeout(SECONDS):
        while True:
            records = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
            if len(found := [record for record in records if record["event"] == event]) >= count:
                return found
            await asyncio.sleep(0.1)


async def test_a_new_certificate_of_the_server_on_both_listeners(server: ServerProcess, mtls: MutualTls) -> None:
    viewer, other = mtls.authority.workload("viewer"), Authority("another")
    async with calling(server, viewer, mtls.authority) as open_before:
        assert (await open_before.exchanges.GetExchange(BINANCE)).id == "binance"
        other.server().write(mtls.directory, "server")
        for pair in (viewer, None):
            await until(Code.OK, lambda pair=pair: code_of(server, pair, other))  # type: ignore[misc]  # bound now
            assert await code_of(server, pair, mtls.authority) is Code.UNAVAILABLE
        assert (await open_before.exchanges.GetExchange(BINANCE)).id == "binance"


async def test_a_certificate_without_its_key_is_not_taken(server: ServerProcess, mtls: MutualTls) -> None:
    """Of the two files one is always written first."""
    viewer, other = mtls.authority.workload("viewer"), Authority("another")
    pair = other.server()
    replace_file(mtls.directory / "server.pem", pair.pem)
    (failed,) = await logged(server, "reload_failed")
    assert failed["what"] == "tls" and failed["problem"].startswith(str(mtls.directory / "server.key"))
    assert "PRIVATE" not in failed["problem"]
    assert await code_of(server, viewer, mtls.authority) is Code.OK
    replace_file(mtls.directory / "server.key", pair.key)
    await logged(server, "reloaded")
    assert await code_of(server, viewer, other) is Code.OK


async def test_a_new_authority_of_the_clients(server: ServerProcess, mtls: MutualTls) -> None:
    other = Authority("another")
    old, new = mtls.authority.workload("viewer"), other.workload("viewer")
    assert await code_of(server, new, mtls.authority) is Code.UNAVAILABLE
    async with calling(server, old, mtls.authority) as client:
        watching = Watching(client)
        await watching.synced()
        replace_file(mtls.directory / "ca.pem", other.pem)
        async with asyncio.timeout(SECONDS):
            await ended(watching.call, Code.UNAUTHENTICATED, "UNAUTHENTICATED")
        assert await code_of(server, new, mtls.authority) is Code.OK
        assert await code_of(server, old, mtls.authority) is Code.UNAVAILABLE
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.exchanges.GetExchange(BINANCE)  # by the connection that is still open
        assert refusal_of(caught.value).text == "nobody vouches for the certificate any more"


async def test_a_new_policy(server: ServerProcess, mtls: MutualTls) -> None:
    dashboard, viewer = mtls.authority.workload("dashboard"), mtls.authority.workload("viewer")
    assert await code_of(server, dashboard, mtls.authority) is Code.UNAUTHENTICATED
    mtls.write_policy(grant(spiffe("dashboard"), "viewer"))
    await until(Code.OK, lambda: code_of(server, dashboard, mtls.authority))
    assert await code_of(server, viewer, mtls.authority) is Code.UNAUTHENTICATED


async def test_a_broken_policy_changes_nothing_and_is_told_once(server: ServerProcess, mtls: MutualTls) -> None:
    mtls.write_policy(grant(spiffe("viewer"), "viewer") + grant(spiffe("x"), "boss"))
    (failed,) = await logged(server, "reload_failed")
    assert (failed["what"], failed["level"]) == ("mtls_policy", "error")
    expected = f"{mtls.directory}/policy.toml:6: role has value 'boss': expected admin, gateway, engine or viewer"
    assert failed["problem"] == expected
    assert await code_of(server, mtls.authority.workload("engine"), mtls.authority) is Code.OK
    mtls.write_policy(grant(spiffe("viewer"), "viewer"))
    await logged(server, "reloaded")
    assert len(await logged(server, "reload_failed")) == 1


def test_a_broken_policy_stops_the_start(tmp_path: Path, mtls: MutualTls) -> None:
    mtls.write_policy(grant(spiffe("x"), "boss") + grant("x", "admin"))
    refused = run("serve", env=environment(tmp_path / "data") | dict(mtls.settings))
    assert refused.returncode == 3 and refused.stdout == ""
    told = [line for line in refused.stderr.splitlines() if line.startswith("nofx-grpc: ")]
    path = mtls.directory / "policy.toml"
    assert told[0] == f"nofx-grpc: {path}:3: role has value 'boss': expected admin, gateway, engine or viewer"
    assert told[1].startswith(f"nofx-grpc: {path}:5: spiffe_id has value 'x': expected spiffe://trust-domain/path")


async def test_workers_share_the_listener_for_certificates(tmp_path: Path, mtls: MutualTls) -> None:
    env = environment(tmp_path / "data", workers="2") | dict(mtls.settings)
    with serving(env, tmp_path / "log") as server:
        viewer = mtls.authority.workload("viewer")
        assert [await code_of(server, viewer, mtls.authority) for _ in range(8)] == [Code.OK] * 8
        mtls.write_policy(grant(spiffe("admin"), "admin"))
        await logged(server, "reloaded", 2)
        answers = {await code_of(server, viewer, mtls.authority) for _ in range(8)}
        assert answers == {Code.UNAUTHENTICATED}
        assert server.stop() == 0
