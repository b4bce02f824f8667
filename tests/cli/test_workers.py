"""`nofx-grpc serve --workers N`: several processes that serve one address as if they were one server."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from nofx_grpc import workers
from nofx_grpc.app import login_options, server_options
from nofx_grpc.errors import SettingsError, StartError
from nofx_grpc.settings import Settings
from nofx_grpc.v1 import exchanges_pb2, exchanges_pb2_grpc
from tests.cli.test_drain import in_flight
from tests.support.certificates import URI, MutualTls, spiffe
from tests.support.processes import ServerProcess, environment, run, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

REQUEST = exchanges_pb2.ListSupportedExchangesRequest()
SECONDS = 30.0


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return environment(tmp_path / "data", workers="2", log_level="debug", shutdown_grace_seconds="20")


@pytest.fixture
def server(env: dict[str, str], tmp_path: Path) -> Iterator[ServerProcess]:
    with serving(env, tmp_path / "log") as running:
        yield running


@pytest.fixture
def server_on_each(env: dict[str, str], tmp_path: Path, database_env: dict[str, str]) -> Iterator[ServerProcess]:
    with serving(env | database_env, tmp_path / "log") as running:
        yield running


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def events(server: ServerProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]


def named(server: ServerProcess, event: str) -> list[dict[str, Any]]:
    return [found for found in events(server) if found["event"] == event]


async def until(holds: Callable[[], object]) -> None:
    """Wait until it is so; what it takes is the machine's affair."""
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end, "it did not come to be"
        await asyncio.sleep(0.05)


def connection(server: ServerProcess) -> grpc.aio.Channel:
    """A connection of its own: the kernel gives each to one of the workers."""
    return grpc.aio.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)])


async def call(server: ServerProcess) -> None:
    async with connection(server) as channel:
        stub: Any = exchanges_pb2_grpc.ExchangesStub(channel)
        answer = await stub.ListSupportedExchanges(REQUEST, metadata=server.authorization(), wait_for_ready=True)
        assert len(answer.exchanges) == 3


async def test_both_serve_and_what_they_write_is_in_one_order(server_on_each: ServerProcess) -> None:
    """Every caller has a connection of its own, so both workers write."""
    server = server_on_each

    async def create(number: int) -> int:
        exchange = exchanges_pb2.Exchange(name="X", type="cex")
        request = exchanges_pb2.CreateExchangeRequest(user_id="default", exchange_id=f"x{number}", exchange=exchange)
        async with connection(server) as channel:
            stub: Any = exchanges_pb2_grpc.ExchangesStub(channel)
            return int((await stub.CreateExchange(request, metadata=server.authorization())).revision)

    revisions = await asyncio.gather(*map(create, range(40)))
    assert sorted(revisions) == list(range(2, 42))
    assert {found["worker"] for found in named(server, "answered")} == {1, 2}, "every line tells which it was"
    assert len(children(server.process.pid)) == 2
    assert [found["workers"] for found in named(server, "serving") if "workers" in found] == [2]
    assert run("health", "--address", server.address, env=server.env).stdout == "SERVING\n"
    assert await asyncio.to_thread(server.stop) == 0


async def test_one_that_is_killed_is_replaced_and_the_other_goes_on(server_on_each: ServerProcess) -> None:
    server = server_on_each
    first, second = children(server.process.pid)
    os.kill(second, signal.SIGKILL)
    await until(lambda: named(server, "worker_died"))
    await call(server)
    [died] = named(server, "worker_died")
    assert (died["worker"], died["status"], died["level"]) == (2, "SIGKILL", "error")
    await until(lambda: len([found for found in named(server, "serving") if found.get("worker") == 2]) == 2)
    assert first in children(server.process.pid) and second not in children(server.process.pid)
    assert await asyncio.to_thread(server.stop) == 0


async def test_a_signal_to_the_parent_and_to_it_alone_lets_calls_in_flight_end(server: ServerProcess) -> None:
    workers_of_it = children(server.process.pid)
    async with connection(server) as channel:
        slow = await in_flight(channel, server)
        for pid in workers_of_it:
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
        await call(server)
        await asyncio.sleep(0.5)
        assert children(server.process.pid) == workers_of_it and not named(server, "draining")
        server.signal()
        await until(lambda: len(named(server, "draining")) == 2)
        await asyncio.sleep(0.3)
        assert server.process.poll() is None
        assert (await slow.end()).imported_count == 2
    assert await asyncio.to_thread(server.wait) == 0
    assert len(named(server, "stopped")) == 3
    assert not {path.name for path in server.data_dir.iterdir()} & {"nofx.db-wal", "nofx.db-shm"}


async def test_a_second_signal_ends_all_at_once(server: ServerProcess) -> None:
    before = children(server.process.pid)
    async with connection(server) as channel:
        await in_flight(channel, server)
        server.signal()
        await until(lambda: len(named(server, "draining")) == 2)
        server.signal(signal.SIGINT)
        assert await asyncio.to_thread(server.wait) == 128 + signal.SIGINT
    await until(lambda: not any(map(alive, before)))


async def test_workers_do_not_outlive_a_parent_that_is_killed(server: ServerProcess) -> None:
    before = children(server.process.pid)
    server.signal(signal.SIGKILL)
    server.wait()
    await until(lambda: not any(map(alive, before)))
    with serving(server.env, server.log) as again:
        await call(again)


async def test_callers_with_certificates_reach_all_workers(env: dict[str, str], tmp_path: Path) -> None:
    tls = MutualTls.made_in(tmp_path)
    credentials = tls.channel_credentials(tls.authority.issue(URI(spiffe("viewer"))))
    with serving(env | dict(tls.settings), tmp_path / "log") as server:
        [address] = {found["mtls_address"] for found in named(server, "serving") if "worker" in found}
        assert server.address != address
        while {found["worker"] for found in named(server, "answered")} != {1, 2}:
            options = [("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.secure_channel(address, credentials, options) as channel:
                stub: Any = exchanges_pb2_grpc.ExchangesStub(channel)
                await stub.ListSupportedExchanges(REQUEST)
        taken = run("serve", env=environment(tmp_path / "other", listen=address, workers="2"))
        assert taken.returncode == 3 and "another server is running there" in taken.stderr


def test_nobody_else_gets_the_address_or_the_directory(server: ServerProcess, tmp_path: Path) -> None:
    taken = f"nofx-grpc: cannot listen on {server.address}: another server is running there"
    for number in ("1", "2"):
        refused = run("serve", env=environment(tmp_path / "other", listen=server.address, workers=number))
        assert refused.returncode == 3 and taken in refused.stderr
    same = run("serve", env=server.env)
    assert same.returncode == 3 and "another server with workers runs over the data directory" in same.stderr


def test_workers_do_not_join_a_server_without_any(tmp_path: Path) -> None:
    with serving(environment(tmp_path / "data"), tmp_path / "log") as server:
        refused = run("serve", "--workers", "2", env=environment(tmp_path / "other", listen=server.address))
    assert refused.returncode == 3
    assert refused.stderr == f"nofx-grpc: cannot listen on {server.address}: another server is running there\n"
    assert not (tmp_path / "other" / "nofx.db").exists()


def test_a_start_that_fails_is_told_once(tmp_path: Path) -> None:
    env = environment(tmp_path / "data", workers="3")
    assert run("migrate", env=env).returncode == 0
    (tmp_path / "data" / "master.key").unlink()
    refused = run("serve", env=env)
    assert refused.returncode == 3 and refused.stdout == ""
    first, second = refused.stderr.splitlines()
    assert first.startswith("nofx-grpc: there is no master key: set DATA_ENCRYPTION_KEY")
    assert second == "nofx-grpc: worker 1 could not start: status 3"


@pytest.mark.parametrize(
    ("number", "listen", "expected"),
    [
        ("0", "127.0.0.1:0", "a whole number from 1 to 256"),
        ("many", "127.0.0.1:0", "a whole number from 1 to 256"),
        ("2", "unix:/tmp/s", "1, because NOFX_GRPC_LISTEN is a Unix socket, which only one process can serve: "),
    ],
)
def test_a_number_that_cannot_be(number: str, listen: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load(None, {"NOFX_GRPC_WORKERS": number, "NOFX_GRPC_LISTEN": listen})
    assert caught.value.message.startswith(f"NOFX_GRPC_WORKERS has value '{number}': expected {expected}")


async def test_one_that_dies_again_and_again_ends_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With workers that say that they are ready, and end."""
    dying = tmp_path / "dying"
    dying.write_text("#!/bin/sh\nread order\necho ready\nsleep 0.2\nexit 7\n")
    dying.chmod(0o700)
    monkeypatch.setattr(workers, "COMMAND", (str(dying),))
    monkeypatch.setattr(workers, "FIRST_PAUSE_SECONDS", 0.01)
    announced: list[str] = []
    settings = Settings.load(None, environment(tmp_path / "data", workers="2"))
    with capture_logs() as logged, pytest.raises(StartError, match=r"worker [12] has died 6 times .* status 7: given"):
        await workers.keep_all(settings, lambda _, address, __: announced.append(address))
    assert len(announced) == 1
    pauses = [line["restart_in_seconds"] for line in logged if line["event"] == "worker_died" and line["worker"] == 1]
    assert pauses[:4] == [0.01, 0.02, 0.04, 0.08]


async def test_one_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = tmp_path / "stuck"
    stuck.write_text("#!/bin/sh\nread order\necho ready\nexec sleep 1000\n")
    stuck.chmod(0o700)
    monkeypatch.setattr(workers, "COMMAND", (str(stuck),))
    monkeypatch.setattr(workers, "END_SECONDS", 0.5)
    settings = Settings.load(None, environment(tmp_path / "data", workers="2", shutdown_grace_seconds="0"))
    with capture_logs() as logged:
        await workers.keep_all(settings, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert [line["event"] for line in logged if line["log_level"] == "error"] == ["workers_killed"]
    assert not any(map(alive, children(os.getpid())))


def test_what_a_worker_is_told_is_what_the_parent_was_told(tmp_path: Path) -> None:
    secret = {"DATA_ENCRYPTION_KEY": "test key", "NOFX_GRPC_DATABASE_URL": "postgresql+psycopg://u:test@h/d"}
    settings = Settings.load(None, environment(tmp_path, workers="2", batch_milliseconds="2.5") | secret)
    order = json.loads(workers.order_for(2, settings))
    assert order["number"] == 2 and Settings.model_validate(order["settings"]) == settings


def test_limits_of_the_whole_server_are_shared_by_the_workers() -> None:
    env = {"NOFX_GRPC_WORKERS": "4", "NOFX_GRPC_PASSWORD_HASH_CONCURRENCY": "6"}
    assert login_options(Settings.load(None, env)).hash_threads == 2
    assert login_options(Settings.load(None, env | {"NOFX_GRPC_WORKERS": "64"})).hash_threads == 1
    assert server_options(Settings.load(None, env)).shared
