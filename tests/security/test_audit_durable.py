"""No secret leaves before its record is durable: where none can be written, nothing leaves, nobody waits for ever."""

import asyncio
import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from nofx_grpc.store import traders
from nofx_grpc.v1 import (
    exchanges_pb2,
    exchanges_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    system_config_pb2,
    system_config_pb2_grpc,
    traders_pb2,
    traders_pb2_grpc,
)
from tests.support.audit import verified
from tests.support.mirrors import Mirror
from tests.support.processes import ServerProcess, environment, run, serving
from tests.support.rows import EXCHANGE_KEY, EXCHANGE_SECRET, MODEL_KEY, USER, make_trader
from tests.support.service import RunningService, refusal_of, refused
from tests.support.watching import read

Code = grpc.StatusCode
SECONDS = 30.0  # longer than anything here takes; a hang is longer


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Without the tracebacks of structlog's defaults, which a server never uses: they take seconds each."""
    with capture_logs():
        yield


class Reveals:
    """Every rpc that reveals, of one trader's owner."""

    def __init__(self, channel: Any, trader: traders_pb2.Trader) -> None:
        owner, model, exchange = trader.user_id, trader.ai_model_id, trader.exchange_id
        config = traders_pb2.GetTraderConfigRequest(user_id=owner, trader_id=trader.id)
        in_traders = traders_pb2_grpc.TradersStub(channel)
        self.engine: dict[str, Callable[..., Any]] = {
            "GetTraderConfig": lambda **kw: in_traders.GetTraderConfig(config, **kw),
            "AccessModelCredentials": lambda **kw: models_pb2_grpc.ModelsStub(channel).AccessModelCredentials(
                models_pb2.AccessModelCredentialsRequest(user_id=owner, id=model), **kw
            ),
            "AccessExchangeCredentials": lambda **kw: exchanges_pb2_grpc.ExchangesStub(
                channel
            ).AccessExchangeCredentials(
                exchanges_pb2.AccessExchangeCredentialsRequest(user_id=owner, id=exchange), **kw
            ),
            "StreamTraderConfigs": lambda **kw: read(
                in_traders.StreamTraderConfigs(traders_pb2.StreamTraderConfigsRequest(), **kw)
            ),
            "WatchTraderConfigs": lambda **kw: read(
                in_traders.WatchTraderConfigs(traders_pb2.WatchTraderConfigsRequest(), **kw)
            ),
        }
        self.gateway: dict[str, Callable[..., Any]] = {
            "AccessSystemSecret": lambda **kw: system_config_pb2_grpc.SystemConfigStub(channel).AccessSystemSecret(
                system_config_pb2.AccessSystemSecretRequest(key="jwt_secret"), **kw
            ),
        }

    async def answers(self, tokens: Callable[[str], str]) -> dict[str, Any]:
        """What each answers now: a message, or an error."""
        found: dict[str, Any] = {}
        for role, calls in (("engine", self.engine), ("gateway", self.gateway)):
            metadata = (("authorization", f"Bearer {tokens(role)}"),)
            for name, call in calls.items():
                try:
                    found[name] = await asyncio.wait_for(call(metadata=metadata), SECONDS)
                except grpc.aio.AioRpcError as error:
                    found[name] = error
        return found


def check_all_refused(answers: dict[str, Any]) -> None:
    for name, answer in answers.items():
        assert isinstance(answer, grpc.aio.AioRpcError), f"{name} has revealed"
        refusal = refusal_of(answer)
        assert (refusal.code, refusal.reason) == (Code.UNAVAILABLE, "AUDIT_UNAVAILABLE"), name
        everything = refusal.text + str(answer.trailing_metadata())
        assert not any(secret in everything for secret in (MODEL_KEY, EXCHANGE_KEY, EXCHANGE_SECRET)), name
        assert refusal.retry_seconds, name


def check_all_revealed(answers: dict[str, Any]) -> None:
    assert [name for name, answer in answers.items() if isinstance(answer, Exception)] == []
    assert answers["AccessModelCredentials"].credentials.api_key == MODEL_KEY


# ---- a failing insert, on both engines

BREAK = {
    "sqlite": ["CREATE TRIGGER broken BEFORE INSERT ON audit_log BEGIN SELECT RAISE(ABORT, 'no'); END"],
    "postgresql": [
        "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$",
        "CREATE TRIGGER broken BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION broken()",
    ],
}
MEND = {
    "sqlite": ["DROP TRIGGER broken"],
    "postgresql": ["DROP TRIGGER broken ON audit_log", "DROP FUNCTION broken"],
}


async def test_a_failing_insert_keeps_everything_in(service: RunningService, engine: str) -> None:
    trader = await make_trader(service)
    reveals = Reveals(service.anonymous().channel, trader)
    check_all_revealed(await reveals.answers(service.token))
    for sql in BREAK[engine]:
        await service.execute(sql)
    check_all_refused(await reveals.answers(service.token))
    read_still = traders_pb2.GetTraderRequest(user_id=USER, id=trader.id)
    assert await service.client().traders.GetTrader(read_still) == trader, "what reveals nothing goes on"
    async with service.nothing_written():
        request = traders_pb2.StartTraderRequest(user_id=USER, id=trader.id)
        refusal = await refused(service.client().traders.StartTrader(request), Code.UNAVAILABLE, "AUDIT_UNAVAILABLE")
        assert refusal.retry_seconds and "nothing was revealed or changed" in refusal.text
    for sql in MEND[engine]:
        await service.execute(sql)
    check_all_revealed(await reveals.answers(service.token))
    assert (await verified(service)).ok, "what failed has left no gap"


async def test_an_open_stream_ends_when_a_record_fails(service: RunningService, engine: str) -> None:
    trader = await make_trader(service)
    mirror = Mirror(service.client("engine"))
    await mirror.settled(await service.revision())
    for sql in BREAK[engine]:
        await service.execute(sql)
    # Past the service, for a write of the service's own needs a record too.
    await service.app.db.write(traders.resource.update, (USER, trader.id), "", lambda old: replace(old, name="renamed"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while True:
            assert not (await asyncio.wait_for(mirror.next(), SECONDS)).configs
    assert refusal_of(caught.value).reason == "AUDIT_UNAVAILABLE"


# ---- a full disk, for a server process


@contextmanager
def full_disk(server: ServerProcess) -> Iterator[None]:
    """No file of the server's may grow, its log's neither: what a full disk does, wherever this runs."""
    pid, unlimited = server.process.pid, resource.RLIM_INFINITY
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, unlimited))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))


async def make_trader_at(server: ServerProcess, channel: Any) -> traders_pb2.Trader:
    metadata = server.authorization()
    model = models_pb2.Model(name="M", provider="deepseek", enabled=True, api_key=MODEL_KEY)
    made = await models_pb2_grpc.ModelsStub(channel).CreateModel(
        models_pb2.CreateModelRequest(user_id="default", model=model), metadata=metadata
    )
    exchange = exchanges_pb2.Exchange(
        name="X", type="cex", enabled=True, api_key=EXCHANGE_KEY, secret_key=EXCHANGE_SECRET
    )
    await exchanges_pb2_grpc.ExchangesStub(channel).CreateExchange(
        exchanges_pb2.CreateExchangeRequest(user_id="default", exchange_id="okx", exchange=exchange), metadata=metadata
    )
    trader = traders_pb2.Trader(name="T", ai_model_id=made.id, exchange_id="okx", initial_balance=1)
    request = traders_pb2.CreateTraderRequest(user_id="default", trader=trader)
    created: traders_pb2.Trader = await traders_pb2_grpc.TradersStub(channel).CreateTrader(request, metadata=metadata)
    return created


@pytest.mark.e2e
async def test_a_full_disk_keeps_everything_in_until_there_is_room(tmp_path: Path) -> None:
    env = environment(tmp_path / "data", log_level="debug")
    with serving(env, tmp_path / "log") as server:
        async with server.channel() as channel:
            trader = await make_trader_at(server, channel)
            reveals = Reveals(channel, trader)
            check_all_revealed(await reveals.answers(server.token))
            with full_disk(server):
                for _ in range(3):
                    check_all_refused(await reveals.answers(server.token))
                stub = traders_pb2_grpc.TradersStub(channel)
                start = traders_pb2.StartTraderRequest(user_id="default", id=trader.id)
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await asyncio.wait_for(stub.StartTrader(start, metadata=server.authorization()), SECONDS)
                assert refusal_of(caught.value).reason == "STORE_FULL"
                get = traders_pb2.GetTraderRequest(user_id="default", id=trader.id)
                assert await stub.GetTrader(get, metadata=server.authorization()) == trader
            check_all_revealed(await reveals.answers(server.token))
        assert server.stop() == 0
    ran = run("audit", "verify", "--json", env=env)
    report = json.loads(ran.stdout)
    assert report["ok"] and report["newer_count"] == 0 and report["chain_count"] == 1, ran.stdout
