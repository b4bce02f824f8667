"""A store with something in every place that is sealed, and the rpcs of its keys as an operator calls them."""

import json
from dataclasses import dataclass
from typing import Any

from nofx_grpc.crypto.envelope import Envelope
from nofx_grpc.store import set_aside
from nofx_grpc.store.sealed import PLACES
from nofx_grpc.v1 import (
    exchanges_pb2,
    keys_pb2,
    models_pb2,
    signal_sources_pb2,
    system_config_pb2,
    traders_pb2,
)
from tests.support.clock import START
from tests.support.people import register
from tests.support.service import Client, RunningService

# Test data, not secrets: words that no other text holds.
WORD = "plaintext-5c0de1"
URL = f"https://user:{WORD}@pool.example.com/list"
EXCHANGE = {name: f"{WORD}-{name}" for name in ("api_key", "secret_key", "aster_private_key")}
MODEL = {"api_key": f"{WORD}-model", "custom_api_url": URL}
SOURCES = {"coin_pool_url": URL, "oi_top_url": URL}
WHOLE = (EXCHANGE, MODEL, SOURCES)
ASIDE = json.dumps({"api_key": f"{WORD}-aside"})


@dataclass(frozen=True)
class Scene:
    """The ids of what was made."""

    user_id: str
    trader_id: str

    async def revealed(self, client: Client) -> tuple[dict[str, str], ...]:
        """Every secret of the trader, as an engine gets it."""
        request = traders_pb2.GetTraderConfigRequest(user_id=self.user_id, trader_id=self.trader_id)
        config = await client.traders.GetTraderConfig(request)
        assert not config.blockers, config
        return tuple(
            {field.name: value for field, value in part.ListFields()}
            for part in (config.exchange_credentials, config.model_credentials, config.signal_source_credentials)
        )


async def furnish(service: RunningService) -> Scene:
    """Put something into every place."""
    admin = service.client("admin")
    ann = await register(service, request_id="furnish")
    exchange = exchanges_pb2.Exchange(name="B", type="cex", enabled=True, **EXCHANGE)  # type: ignore[arg-type]  # names of fields
    await admin.exchanges.CreateExchange(
        exchanges_pb2.CreateExchangeRequest(user_id=ann.id, exchange_id="binance", exchange=exchange)
    )
    model = models_pb2.Model(name="M", provider="qwen", enabled=True, **MODEL)  # type: ignore[arg-type]  # names of fields
    made = await admin.models.CreateModel(models_pb2.CreateModelRequest(user_id=ann.id, model=model))
    source = signal_sources_pb2.SignalSource(user_id=ann.id, **SOURCES)  # type: ignore[arg-type]  # names of fields
    await admin.signal_sources.SetSignalSource(signal_sources_pb2.SetSignalSourceRequest(signal_source=source))
    setting = system_config_pb2.ConfigSetting(key="coin_pool_api_url", value=URL)
    await admin.system_config.SetSystemConfig(system_config_pb2.SetSystemConfigRequest(settings=[setting]))
    trader = traders_pb2.Trader(name="T", ai_model_id=made.id, exchange_id="binance", initial_balance=1)
    created = await admin.traders.CreateTrader(traders_pb2.CreateTraderRequest(user_id=ann.id, trader=trader))
    await put_aside(service, service.app.envelope, ASIDE)
    return Scene(ann.id, created.id)


async def sealed_and_rotated(service: RunningService) -> tuple[str, str]:
    """A key that has sealed something everywhere, and the one that has taken its place."""
    await furnish(service)
    return await rotate(service.client())


async def put_aside(service: RunningService, envelope: Envelope, content: str, code: str = "orphan") -> None:
    """Set something aside, as adoption does."""
    row = {"source_table": "exchanges", "source_key": "key", "code": code, "detail": "", "created_at": START}
    row["content"] = envelope.seal(content, set_aside.location("exchanges", "key", code))
    await service.app.db.write(set_aside.keep, [row])


async def list_keys(client: Client) -> dict[str, keys_pb2.Key]:
    answer = await client.admin.ListKeys(keys_pb2.ListKeysRequest())
    return {key.id: key for key in answer.keys}


async def rotate(client: Client) -> tuple[str, str]:
    """The ids of the key that was primary, and of the one that is."""
    answer = await client.admin.RotateKey(keys_pb2.RotateKeyRequest())
    return answer.previous.id, answer.key.id


async def reencrypt(client: Client) -> list[keys_pb2.ReencryptResponse]:
    return [message async for message in client.admin.Reencrypt(keys_pb2.ReencryptRequest())]


async def retire(client: Client, id: str, **fields: Any) -> None:
    await client.admin.RetireKey(keys_pb2.RetireKeyRequest(id=id, **fields))


async def stored(service: RunningService) -> dict[str, list[str]]:
    """The keys that seal each place, one for each value."""
    found = {}
    for place in PLACES:
        rows = await service.rows(f"SELECT {place.column.name} FROM {place.table.name}")  # noqa: S608  # names of ours
        found[f"{place.table.name}.{place.column.name}"] = [id for (value,) in rows if (id := place.key_id_of(value))]
    return found


def key_ids(found: dict[str, list[str]]) -> set[str]:
    return {id for ids in found.values() for id in ids}
