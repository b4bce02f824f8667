"""The command backs a server up, restores elsewhere, and moves a store to the other engine and back."""

import asyncio
import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nofx_grpc.v1 import exchanges_pb2, models_pb2, traders_pb2, users_pb2, watch_pb2
from tests.store.support import empty_postgresql
from tests.support.processes import ServerProcess, environment, run, serving
from tests.support.service import Client, refusal_of
from tests.support.watching import read

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

KEY = {"DATA_ENCRYPTION_KEY": "11" * 32}


def command(*arguments: str, env: Mapping[str, str]) -> dict[str, Any]:
    """The report of a command that worked."""
    done = run(*arguments, "--json", env=env)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


async def add_traders(client: Client) -> None:
    await client.users.CreateUser(users_pb2.CreateUserRequest(user_id="ada", user=users_pb2.User(email="a@b.example")))
    model = models_pb2.Model(name="DeepSeek", provider="deepseek", enabled=True, api_key="sk-move-1")
    await client.models.CreateModel(models_pb2.CreateModelRequest(user_id="ada", model_id="m", model=model))
    exchange = exchanges_pb2.Exchange(name="B", type="cex", enabled=True, api_key="k-move-1", secret_key="s-move-1")
    await client.exchanges.CreateExchange(
        exchanges_pb2.CreateExchangeRequest(user_id="ada", exchange_id="binance", exchange=exchange)
    )
    for number in range(5):
        trader = traders_pb2.Trader(name="T", ai_model_id="m", exchange_id="binance", initial_balance=number)
        await client.traders.CreateTrader(
            traders_pb2.CreateTraderRequest(user_id="ada", trader_id=f"t{number}", trader=trader)
        )


async def configs(server: ServerProcess, token: str) -> list[bytes]:
    """What engines get, secrets included."""
    client = Client(server.address, token)
    found = [
        await client.traders.GetTraderConfig(traders_pb2.GetTraderConfigRequest(user_id="ada", trader_id=f"t{number}"))
        for number in range(5)
    ]
    await client.close()
    for config in found:
        config.ClearField("revision")  # the store's, which goes on for other reasons
    return [config.SerializeToString(deterministic=True) for config in found]


async def write_until(client: Client, ended: asyncio.Event) -> int:
    """Write without a pause; how often."""
    written = 0
    while not ended.is_set():
        update = exchanges_pb2.Exchange(user_id="default", id="binance", name=f"B{written}")
        await client.exchanges.UpdateExchange(exchanges_pb2.UpdateExchangeRequest(exchange=update))
        written += 1
    return written


async def test_a_drill(tmp_path: Path) -> None:
    env = environment(tmp_path / "data", **KEY)
    with serving(env, tmp_path / "log") as server:
        client = Client(server.address, server.token("admin"))
        await add_traders(client)
        ended = asyncio.Event()
        writing = asyncio.create_task(write_until(client, ended))
        report = await asyncio.to_thread(command, "backup", str(tmp_path / "backup"), env=env)
        ended.set()
        assert await writing > 0
        watch: Any = client.watch.Watch(watch_pb2.WatchRequest())
        seen = await read(watch)
        before = await configs(server, server.token("engine"))
        await client.close()
        server.signal(signal.SIGKILL)
        server.wait()

    elsewhere = environment(tmp_path / "elsewhere", **KEY)
    restored = command("restore", str(tmp_path / "backup"), env=elsewhere)
    assert restored["revision"] == report["revision"] < seen.revision
    assert restored["history_id"] != report["history_id"]
    token = command("token", "create", "--role", "admin", env=elsewhere)["secret"]
    engine = command("token", "create", "--role", "engine", env=elsewhere)["secret"]
    with serving(elsewhere, tmp_path / "log") as server:
        assert await configs(server, engine) == before
        client = Client(server.address, token)
        # Whoever saw what the backup does not have is told, and never goes on as if nothing had happened.
        resume = watch_pb2.WatchRequest(start_revision=seen.revision, history_id=seen.history_id)
        with pytest.raises(Exception, match="history") as refused:
            await read(client.watch.Watch(resume))
        assert refusal_of(refused.value).reason == "HISTORY_CHANGED"  # type: ignore[arg-type]  # an AioRpcError
        await client.close()
        assert server.stop() == 0


async def test_a_move_to_postgresql_and_back(tmp_path: Path) -> None:
    env = environment(tmp_path / "data", **KEY)
    with serving(env, tmp_path / "log") as server:
        client = Client(server.address, server.token("admin"))
        await add_traders(client)
        before = await configs(server, server.token("engine"))
        await client.close()
        assert server.stop() == 0
    token = (tmp_path / "data" / "tokens" / "engine").read_text()
    one, three = (f"sqlite:///{tmp_path}/{name}" for name in ("data/nofx.db", "back.db"))
    with empty_postgresql() as two:
        there = command("copy-db", one, two, env=env)
        with serving(env | {"NOFX_GRPC_DATABASE_URL": two}, tmp_path / "log") as server:
            assert await configs(server, token) == before
            assert server.stop() == 0
        back = command("copy-db", two, three, env=env)
        assert back["history_id"] == there["history_id"]
        same = set(back["tables"]) - {"audit_log", "tokens"}  # which tell of the reveals in between
        assert {t: back["tables"][t] for t in same} == {t: there["tables"][t] for t in same}
    with serving(env | {"NOFX_GRPC_DATABASE_URL": three}, tmp_path / "log") as server:
        assert await configs(server, token) == before
        assert server.stop() == 0


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    env = environment(tmp_path / "data", **KEY)
    command("migrate", env=env)
    here = f"sqlite:///{tmp_path}/data/nofx.db"
    command("backup", str(tmp_path / "backup"), env=env)
    for arguments, message in {
        ("backup", str(tmp_path / "backup")): "is there already",
        ("restore", str(tmp_path / "backup")): "nofx.db is not empty: move it away, ",
        ("restore", str(tmp_path)): "is no backup",
        ("copy-db", here, here): "SRC and DST are both",
        ("copy-db", "mysql://x/y", here): "SRC has value 'mysql://x/y': expected sqlite:///",
        ("copy-db", here, "nonsense"): "DST is not a URL: expected sqlite:///",
        ("copy-db", "", here): "SRC is not a URL: expected sqlite:///",
        ("copy-db", f"sqlite:///{tmp_path}/none.db", f"sqlite:///{tmp_path}/new.db"): "there is no database at",
    }.items():
        done = run(*arguments, env=env)
        assert done.returncode == 3 and message in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_reports_for_people(tmp_path: Path) -> None:
    env = environment(tmp_path / "data", **KEY)
    command("migrate", env=env)
    made = run("backup", str(tmp_path / "backup"), env=env).stdout
    assert "Backed up revision 1 to" in made and "Keep the master key elsewhere" in " ".join(made.split())
    restored = run("restore", str(tmp_path / "backup"), "--to", f"sqlite:///{tmp_path}/restored.db", env=env).stdout
    assert "Watchers take a new snapshot. 4 tokens are valid" in " ".join(restored.split())
    url = f"sqlite:///{tmp_path}/restored.db"
    copied = run("copy-db", url, f"sqlite:///{tmp_path}/copied.db", env=env).stdout
    assert "every row was compared" in copied
