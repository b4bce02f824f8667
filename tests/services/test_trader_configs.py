"""GetTraderConfig over a real server: complete, at one revision, on the record, and what blocks a trader."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from nofx_grpc.store import revisions
from nofx_grpc.store.engine import Connection
from nofx_grpc.v1 import common_pb2, exchanges_pb2, models_pb2
from nofx_grpc.v1 import traders_pb2 as pb
from tests.support.rows import (
    COIN_POOL_URL,
    EXCHANGE_KEY,
    EXCHANGE_SECRET,
    MODEL_KEY,
    OI_TOP_URL,
    USER,
    make_exchange,
    make_signal_source,
    make_trader,
)
from tests.support.service import RunningService, refused

Code = grpc.StatusCode


async def config_of(service: RunningService, trader_id: str) -> pb.TraderConfig:
    request = pb.GetTraderConfigRequest(user_id=USER, trader_id=trader_id)
    return await service.client("engine").traders.GetTraderConfig(request)


def blockers_of(config: pb.TraderConfig) -> dict[str, str]:
    """Blocker types, without the prefix, and their fields."""
    assert config.runnable == (not config.blockers)
    return {common_pb2.BlockerType.Name(b.type).removeprefix("BLOCKER_TYPE_"): b.field for b in config.blockers}


async def test_a_configuration_is_complete_and_at_one_revision(service: RunningService) -> None:
    trader = await make_trader(service)
    source = await make_signal_source(service)
    config = await config_of(service, trader.id)
    assert config.trader == trader and config.signal_source == source
    assert (config.model.id, config.exchange.id) == (trader.ai_model_id, trader.exchange_id)
    assert config.model_credentials.api_key == MODEL_KEY
    credentials = config.exchange_credentials
    assert (credentials.api_key, credentials.secret_key) == (EXCHANGE_KEY, EXCHANGE_SECRET)
    urls = config.signal_source_credentials
    assert (urls.coin_pool_url, urls.oi_top_url) == (COIN_POOL_URL, OI_TOP_URL)
    assert config.risk.max_daily_loss == 10.0 and config.risk.max_drawdown == 20.0
    assert config.risk.stop_trading_minutes == 60 and "BTCUSDT" in config.risk.default_coins
    assert config.revision == await service.revision() and blockers_of(config) == {}


async def test_without_a_signal_source_there_is_none(service: RunningService) -> None:
    config = await config_of(service, (await make_trader(service)).id)
    assert not config.HasField("signal_source") and not config.HasField("signal_source_credentials")
    assert config.HasField("model_credentials")


async def test_a_reveal_is_on_the_record_before_it_is_answered(service: RunningService) -> None:
    trader = await make_trader(service)
    config = await config_of(service, trader.id)
    last = (await service.rows("SELECT principal, user_id, resources, outcome, revision FROM audit_log"))[-1]
    assert last == ("token:bootstrap-engine", USER, trader.id, "OK", config.revision)


async def test_without_a_durable_record_nothing_is_revealed(service: RunningService) -> None:
    trader = await make_trader(service)
    await service.app.db.write(lambda c: c.exec_driver_sql("ALTER TABLE audit_log RENAME TO audit_gone"))
    refusal = await refused(config_of(service, trader.id), Code.UNAVAILABLE, "AUDIT_UNAVAILABLE")
    assert MODEL_KEY not in refusal.text
    await service.app.db.write(lambda c: c.exec_driver_sql("ALTER TABLE audit_gone RENAME TO audit_log"))
    assert (await config_of(service, trader.id)).model_credentials.api_key == MODEL_KEY


async def test_a_missing_trader_and_another_users_trader_are_not_found(service: RunningService) -> None:
    trader = await make_trader(service)
    await refused(config_of(service, "no such trader"), Code.NOT_FOUND, "NOT_FOUND")
    request = pb.GetTraderConfigRequest(user_id="somebody else", trader_id=trader.id)
    call = service.client("engine").traders.GetTraderConfig(request)
    await refused(call, Code.NOT_FOUND, "NOT_FOUND")


async def set_model(service: RunningService, trader: pb.Trader, *paths: str, **fields: Any) -> None:
    model = models_pb2.Model(user_id=USER, id=trader.ai_model_id, **fields)
    request = models_pb2.UpdateModelRequest(model=model, update_mask=FieldMask(paths=paths))
    await service.client().models.UpdateModel(request)


async def set_exchange(service: RunningService, trader: pb.Trader, *paths: str, **fields: Any) -> None:
    exchange = exchanges_pb2.Exchange(user_id=USER, id=trader.exchange_id, **fields)
    request = exchanges_pb2.UpdateExchangeRequest(exchange=exchange, update_mask=FieldMask(paths=paths))
    await service.client().exchanges.UpdateExchange(request)


async def test_what_is_disabled_or_missing_blocks(service: RunningService) -> None:
    trader = await make_trader(service)
    await set_model(service, trader, "enabled", "api_key")
    await set_exchange(service, trader, "enabled", "api_key")
    assert blockers_of(await config_of(service, trader.id)) == {
        "MODEL_DISABLED": "model.enabled",
        "MODEL_KEY_MISSING": "model.api_key",
        "EXCHANGE_DISABLED": "exchange.enabled",
        "EXCHANGE_CREDENTIAL_MISSING": "exchange.api_key",
    }


async def test_a_trader_of_the_template_user_never_runs(service: RunningService) -> None:
    trader = await make_trader(service)
    values: dict[str, Any] = {"name": "T", "provider": "p", "enabled": True, "api_key": "k"}
    admin = service.client()
    model = await admin.models.CreateModel(
        models_pb2.CreateModelRequest(user_id="default", model=models_pb2.Model(**values))
    )
    template = pb.Trader(name="T", ai_model_id=model.id, exchange_id="binance", initial_balance=1)
    made = await admin.traders.CreateTrader(pb.CreateTraderRequest(user_id="default", trader=template))
    request = pb.GetTraderConfigRequest(user_id="default", trader_id=made.id)
    config = await service.client("engine").traders.GetTraderConfig(request)
    assert "TRADER_OF_TEMPLATE_USER" in blockers_of(config)
    call = service.client("gateway").traders.DeleteTrader(pb.DeleteTraderRequest(user_id="default", id=made.id))
    await refused(call, Code.PERMISSION_DENIED, "PERMISSION_DENIED")
    assert blockers_of(await config_of(service, trader.id)) == {}


@pytest.mark.parametrize(
    ("id", "fields", "missing"),
    [
        ("okx", {"secret_key": ""}, []),
        ("okx", {"api_key": ""}, ["api_key"]),
        ("binance-2", {"type": "binance", "secret_key": ""}, ["secret_key"]),
        ("hl", {"type": "hyperliquid", "secret_key": ""}, ["hyperliquid_wallet_addr"]),
        ("hl", {"type": "hyperliquid", "hyperliquid_wallet_addr": "0x1", "api_key": ""}, ["api_key"]),
        ("a", {"type": "aster", "aster_user": "0x1"}, ["aster_signer", "aster_private_key"]),
    ],
)
async def test_each_exchange_needs_its_own_credentials(
    service: RunningService, id: str, fields: dict[str, Any], missing: list[str]
) -> None:
    exchange = await make_exchange(service, id, **fields)
    trader = await make_trader(service, exchange_id=exchange.id)
    config = await config_of(service, trader.id)
    found = [b.field for b in config.blockers if b.type == common_pb2.BLOCKER_TYPE_EXCHANGE_CREDENTIAL_MISSING]
    assert found == [f"exchange.{name}" for name in missing]


async def test_an_unreadable_secret_blocks_and_withholds_every_credential(service: RunningService) -> None:
    trader = await make_trader(service)
    await make_signal_source(service)
    # A ciphertext that was moved from another column does not open.
    sql = "UPDATE exchanges SET secret_key = api_key WHERE user_id = 'alice' AND id = 'okx'"
    await service.app.db.write(lambda c: c.exec_driver_sql(sql))
    config = await config_of(service, trader.id)
    assert blockers_of(config) == {"SECRET_UNREADABLE": "exchange.secret_key"}
    for name in ("model_credentials", "exchange_credentials", "signal_source_credentials"):
        assert not config.HasField(name)
    request = exchanges_pb2.AccessExchangeCredentialsRequest(user_id=USER, id="okx")
    call = service.client("engine").exchanges.AccessExchangeCredentials(request)
    refusal = await refused(call, Code.DATA_LOSS, "SECRET_UNREADABLE")
    assert refusal.metadata == {"field": "secret_key"}
    assert (await service.rows("SELECT outcome, reason FROM audit_log"))[-1] == ("FAILED", "SECRET_UNREADABLE")


async def test_every_unreadable_secret_is_named(service: RunningService) -> None:
    trader = await make_trader(service)
    sql = "UPDATE exchanges SET secret_key = api_key, api_key = secret_key WHERE user_id = 'alice' AND id = 'okx'"
    await service.app.db.write(lambda c: c.exec_driver_sql(sql))
    config = await config_of(service, trader.id)
    assert [blocker.field for blocker in config.blockers] == ["exchange.api_key", "exchange.secret_key"]


async def test_a_configuration_is_never_torn(service: RunningService) -> None:
    """Model and exchange change together, many times, while an engine reads: it never sees one without the other."""
    trader = await make_trader(service)

    def rename(connection: Connection, number: int) -> None:
        revisions.take(connection)
        connection.exec_driver_sql(f"UPDATE ai_models SET name = 'n{number}' WHERE user_id = '{USER}'")  # noqa: S608  # ours
        connection.exec_driver_sql(f"UPDATE exchanges SET name = 'n{number}' WHERE user_id = '{USER}'")  # noqa: S608  # ours

    async def write() -> None:
        for number in range(200):
            await service.app.db.write(rename, number)

    await service.app.db.write(rename, -1)
    engine = service.client("engine").traders
    writing = asyncio.create_task(write())
    seen = set()
    while not writing.done():
        config = await engine.GetTraderConfig(pb.GetTraderConfigRequest(user_id=USER, trader_id=trader.id))
        assert config.model.name == config.exchange.name
        seen.add(config.model.name)
    await writing
    assert len(seen) > 1, "the reads must have run beside the writes"
