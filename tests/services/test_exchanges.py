"""Exchanges over a real server."""

from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from nofx_grpc.v1 import exchanges_pb2 as pb
from tests.support.service import RunningService, refused

Code = grpc.StatusCode


async def create(service: RunningService, **fields: Any) -> pb.Exchange:
    exchange = pb.Exchange(**({"name": "Binance", "type": "cex", "api_key": "K-1", "secret_key": "S-1"} | fields))
    request = pb.CreateExchangeRequest(user_id="default", exchange_id="okx", exchange=exchange)
    return await service.client().exchanges.CreateExchange(request)


async def update(service: RunningService, *paths: str, etag: str = "", **fields: Any) -> pb.Exchange:
    exchange = pb.Exchange(user_id="default", id="okx", etag=etag, **fields)
    request = pb.UpdateExchangeRequest(exchange=exchange, update_mask=FieldMask(paths=paths))
    return await service.client().exchanges.UpdateExchange(request)


async def credentials(service: RunningService) -> pb.ExchangeCredentials:
    request = pb.AccessExchangeCredentialsRequest(user_id="default", id="okx")
    return (await service.client("engine").exchanges.AccessExchangeCredentials(request)).credentials


async def test_a_created_exchange_is_read_back_without_its_secrets(service: RunningService) -> None:
    created = await create(service)
    read = await service.client("viewer").exchanges.GetExchange(pb.GetExchangeRequest(user_id="default", id="okx"))
    assert read == created
    assert created.api_key_set and not created.HasField("api_key") and not created.HasField("secret_key")
    assert "K-1" not in str(created) and len(created.api_key_fingerprint) == 8


async def test_an_engine_reads_the_credentials_on_the_record(service: RunningService) -> None:
    await create(service)
    assert (await credentials(service)).api_key == "K-1"
    records = await service.rows(
        "SELECT principal, method, user_id, resources, outcome FROM audit_log ORDER BY id DESC LIMIT 1"
    )
    method = "/nofx_grpc.v1.Exchanges/AccessExchangeCredentials"
    assert records == [("token:bootstrap-engine", method, "default", "okx", "OK")]


async def test_an_update_without_a_mask_never_clears_a_secret(service: RunningService) -> None:
    await create(service)
    await update(service, name="Renamed", api_key="", secret_key="")
    assert (await credentials(service)).secret_key == "S-1"


async def test_a_named_and_empty_secret_is_cleared(service: RunningService) -> None:
    await create(service)
    updated = await update(service, "secret_key")
    assert not updated.secret_key_set and updated.api_key_set


@pytest.mark.parametrize(("field", "value"), [("type", "dex"), ("testnet", True)])
async def test_redirecting_a_stored_secret_needs_the_secret(service: RunningService, field: str, value: Any) -> None:
    await create(service)
    refusal = await refused(
        update(service, field, "api_key", api_key="K-2", **{field: value}),
        Code.FAILED_PRECONDITION,
        "SECRET_MUST_BE_REENTERED",
    )
    assert refusal.metadata["secrets"] == "secret_key"
    updated = await update(service, field, "api_key", "secret_key", api_key="K-2", secret_key="S-2", **{field: value})
    assert getattr(updated, field) == value
