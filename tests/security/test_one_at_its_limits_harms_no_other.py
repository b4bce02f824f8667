"""Calls, streams and reveals of each principal are limited, and a principal at its limit leaves room for others."""

import asyncio
from pathlib import Path

import grpc
import pytest

from nofx_grpc.errors import RateLimited
from nofx_grpc.rpc.usage import UsageLimits, Usages
from nofx_grpc.v1 import exchanges_pb2, system_config_pb2, watch_pb2
from tests.support.service import RunningService, refusal_of, refused, running_service

LIMITED = (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
BINANCE = exchanges_pb2.GetExchangeRequest(user_id="default", id="binance")
JWT = system_config_pb2.AccessSystemSecretRequest(key="jwt_secret")


async def test_streams_of_one_principal(tmp_path: Path, database_env: dict[str, str]) -> None:
    env = database_env | {"NOFX_GRPC_MAX_STREAMS_PER_PRINCIPAL": "2"}
    async with running_service(tmp_path / "data", env=env) as service:
        viewer, engine = service.client("viewer"), service.client("engine")
        streams = [viewer.watch.Watch(watch_pb2.WatchRequest()) for _ in range(2)]
        for stream in streams:
            await stream.read()
        refusal = await refused(viewer.watch.Watch(watch_pb2.WatchRequest()).read(), *LIMITED)
        assert refusal.metadata == {"limit": "streams_in_flight"} and refusal.retry_seconds == 1
        await viewer.exchanges.GetExchange(BINANCE)
        other = engine.watch.Watch(watch_pb2.WatchRequest())
        await other.read()
        streams.pop().cancel()
        async with asyncio.timeout(30):
            while await _is_refused(service):
                pass


async def test_reveals_of_one_principal(tmp_path: Path, database_env: dict[str, str]) -> None:
    env = database_env | {"NOFX_GRPC_REVEALS_PER_SECOND": "1", "NOFX_GRPC_REVEALS_AT_ONCE": "3"}
    async with running_service(tmp_path / "data", env=env) as service:
        one, other = [service.client(token=await service.make_token("gateway")) for _ in range(2)]
        calls = (one.system_config.AccessSystemSecret(JWT) for _ in range(200))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        refusals = [refusal_of(each) for each in outcomes if isinstance(each, grpc.aio.AioRpcError)]
        assert 3 <= len(outcomes) - len(refusals) < 200
        assert {(each.code, each.reason, each.metadata["limit"]) for each in refusals} == {(*LIMITED, "reveals")}
        assert all(each.retry_seconds and each.retry_seconds <= 1 for each in refusals)
        await other.system_config.AccessSystemSecret(JWT)
        await one.exchanges.GetExchange(BINANCE)


def test_calls_are_counted_until_they_end() -> None:
    usages = Usages(UsageLimits(calls=2))
    with usages.in_flight("a", stream=False, reveal=False):
        with pytest.raises(ValueError, match="x"), usages.in_flight("a", stream=False, reveal=False):
            with pytest.raises(RateLimited) as caught, usages.in_flight("a", stream=False, reveal=False):
                pass
            assert caught.value.metadata == {"limit": "calls_in_flight"}
            with usages.in_flight("b", stream=False, reveal=False):
                pass
            raise ValueError("x")
        with usages.in_flight("a", stream=False, reveal=False):
            pass


def test_reveals_come_back_in_time_up_to_those_at_once() -> None:
    now = [0.0]
    usages = Usages(UsageLimits(reveals_per_second=2, reveals_at_once=3), lambda: now[0])

    def reveals() -> int:
        for done in range(100):
            try:
                with usages.in_flight("a", stream=False, reveal=True):
                    pass
            except RateLimited as error:
                assert 0 < error.retry_after <= 0.5
                return done
        return 100

    assert reveals() == 3
    now[0] += 0.5
    assert reveals() == 1
    now[0] += 3600
    assert reveals() == 3


async def _is_refused(service: RunningService) -> bool:
    stream = service.client("viewer").watch.Watch(watch_pb2.WatchRequest())
    try:
        await stream.read()
    except grpc.aio.AioRpcError as error:
        assert refusal_of(error).reason == "RATE_LIMITED"
        return True
    return False
