"""What a client of the streams of configurations holds, and the changes that it hears of."""

from typing import Any

from nofx_grpc.v1 import models_pb2
from nofx_grpc.v1 import traders_pb2 as pb
from tests.support.rows import USER, make_trader
from tests.support.service import Client, RunningService
from tests.support.watching import read


class Mirror:
    """What a client of WatchTraderConfigs holds."""

    def __init__(self, client: Client, **fields: Any) -> None:
        self.call = client.traders.WatchTraderConfigs(pb.WatchTraderConfigsRequest(**fields))
        self.configs: dict[str, pb.TraderConfig] = {}
        self.told: list[str] = []
        self.last = pb.WatchTraderConfigsResponse()

    async def next(self) -> pb.WatchTraderConfigsResponse:
        self.last = await read(self.call)
        take(self.last, self.configs)
        self.told += [config.trader.id for config in self.last.configs]
        self.told += [f"-{key.trader_id}" for key in self.last.removed]
        return self.last

    async def settled(self, revision: int) -> list[str]:
        """What was told until the state of this revision is held."""
        self.told = []
        while (await self.next()).revision < revision:
            pass
        return self.told


def take(response: Any, configs: dict[str, pb.TraderConfig]) -> None:
    for config in response.configs:
        old = configs.get(config.trader.id)
        assert old is None or old.revision <= config.revision, "older than what was sent before"
        configs[config.trader.id] = config
    for key in response.removed:
        configs.pop(key.trader_id, None)


async def streamed(client: Client, **fields: Any) -> tuple[dict[str, pb.TraderConfig], int]:
    """The configurations of a whole stream, and its revision."""
    configs: dict[str, pb.TraderConfig] = {}
    last = pb.StreamTraderConfigsResponse()
    async for last in client.traders.StreamTraderConfigs(pb.StreamTraderConfigsRequest(**fields)):
        take(last, configs)
    return configs, last.revision


async def whole(service: RunningService, *ids: str) -> dict[str, pb.TraderConfig]:
    """What GetTraderConfig says of each."""
    stub = service.client("engine").traders
    return {id: await stub.GetTraderConfig(pb.GetTraderConfigRequest(user_id=USER, trader_id=id)) for id in ids}


def without_revisions(configs: dict[str, pb.TraderConfig]) -> dict[str, pb.TraderConfig]:
    for config in configs.values():
        config.ClearField("revision")
    return configs


async def fleet(service: RunningService, size: int) -> list[str]:
    """Traders that share a model and an exchange, by their ids."""
    first = await make_trader(service)
    shared = {"ai_model_id": first.ai_model_id, "exchange_id": first.exchange_id}
    return sorted([first.id, *[(await make_trader(service, **shared)).id for _ in range(size - 1)]])


async def rename(service: RunningService, id: str, name: str = "new") -> pb.Trader:
    trader = pb.Trader(user_id=USER, id=id, name=name)
    return await service.client().traders.UpdateTrader(pb.UpdateTraderRequest(trader=trader))


async def set_model(service: RunningService, id: str, **fields: Any) -> models_pb2.Model:
    model = models_pb2.Model(user_id=USER, id=id, **fields)
    return await service.client().models.UpdateModel(models_pb2.UpdateModelRequest(model=model))


async def delete(service: RunningService, id: str) -> None:
    await service.client().traders.DeleteTrader(pb.DeleteTraderRequest(user_id=USER, id=id))


async def records(service: RunningService, method: str) -> list[tuple[Any, ...]]:
    sql = "SELECT user_id, resources, revision FROM audit_log WHERE method LIKE ? AND outcome = 'OK'"
    return await service.rows(f"{sql} ORDER BY chain_position", f"%/{method}")
