"""Rows that many tests start from, made through the service."""

from typing import Any

from nofx_grpc.v1 import exchanges_pb2, models_pb2, signal_sources_pb2, traders_pb2
from tests.support.service import RunningService

# Test data, not secrets: words that no other text holds, so that a leak can be found.
MODEL_KEY = "model-key-plaintext-7f3a"
EXCHANGE_KEY = "exchange-key-plaintext-91bc"
EXCHANGE_SECRET = "exchange-secret-plaintext-c04d"
COIN_POOL_URL = "http://signals.example.com/api/ai500?auth=coin-pool-plaintext-55e0"
OI_TOP_URL = "http://signals.example.com/api/oi/top?auth=oi-top-plaintext-8d12"
USER = "alice"


async def need_user(service: RunningService) -> None:
    """Make USER unless it is there."""
    if not await service.rows("SELECT 1 FROM users WHERE id = ?", USER):
        await service.add_users(USER)


async def make_model(service: RunningService, **fields: Any) -> models_pb2.Model:
    """A model of USER, who is made too if need be."""
    await need_user(service)
    values: dict[str, Any] = {"name": "M", "provider": "deepseek", "enabled": True, "api_key": MODEL_KEY}
    model = models_pb2.Model(**(values | fields))
    request = models_pb2.CreateModelRequest(user_id=USER, model=model)
    return await service.client().models.CreateModel(request)


async def make_exchange(service: RunningService, id: str = "okx", **fields: Any) -> exchanges_pb2.Exchange:
    """An exchange of USER, who is made too if need be."""
    await need_user(service)
    values: dict[str, Any] = {
        "name": "X",
        "type": "cex",
        "enabled": True,
        "api_key": EXCHANGE_KEY,
        "secret_key": EXCHANGE_SECRET,
    }
    exchange = exchanges_pb2.Exchange(**(values | fields))
    request = exchanges_pb2.CreateExchangeRequest(user_id=USER, exchange_id=id, exchange=exchange)
    return await service.client().exchanges.CreateExchange(request)


async def make_signal_source(service: RunningService) -> signal_sources_pb2.SignalSource:
    source = signal_sources_pb2.SignalSource(user_id=USER, coin_pool_url=COIN_POOL_URL, oi_top_url=OI_TOP_URL)
    request = signal_sources_pb2.SetSignalSourceRequest(signal_source=source)
    return await service.client().signal_sources.SetSignalSource(request)


async def make_trader(service: RunningService, **fields: Any) -> traders_pb2.Trader:
    """A trader, with a model and an exchange of its own unless they are given."""
    if "ai_model_id" not in fields:
        fields["ai_model_id"] = (await make_model(service)).id
    if "exchange_id" not in fields:
        fields["exchange_id"] = (await make_exchange(service)).id
    values: dict[str, Any] = {"name": "T", "initial_balance": 1000.5}
    trader = traders_pb2.Trader(**(values | fields))
    request = traders_pb2.CreateTraderRequest(user_id=USER, trader=trader)
    return await service.client().traders.CreateTrader(request)
