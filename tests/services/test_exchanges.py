"""Exchanges over a real server: what they do not have in common with other resources."""

from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from nofx_grpc.services.exchanges import missing_fields
from nofx_grpc.store.exchanges import Exchange
from nofx_grpc.store.resources import UNWRITTEN
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


async def test_a_cleared_secret_does_not_stand_in_the_way_of_a_new_type(service: RunningService) -> None:
    await create(service)
    updated = await update(service, "type", "api_key", "secret_key", type="dex")
    assert updated.type == "dex" and not updated.api_key_set


async def test_the_same_type_again_redirects_nothing(service: RunningService) -> None:
    created = await create(service)
    assert await update(service, "type", "testnet", type="cex", testnet=False) == created


async def test_two_users_may_have_the_same_exchange(service: RunningService) -> None:
    await service.add_users("alice")
    await create(service)
    exchange = pb.Exchange(name="Hers", type="cex", api_key="K-alice")
    request = pb.CreateExchangeRequest(user_id="alice", exchange_id="okx", exchange=exchange)
    hers = await service.client("gateway").exchanges.CreateExchange(request)
    assert hers.user_id == "alice" and (await credentials(service)).api_key == "K-1"


async def test_the_client_gives_the_id(service: RunningService) -> None:
    exchange = pb.Exchange(id="ignored", name="X", type="cex")
    call = service.client().exchanges.CreateExchange(pb.CreateExchangeRequest(user_id="default", exchange=exchange))
    refusal = await refused(call, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert set(refusal.violations) == {"exchange_id"}


async def test_supported_exchanges_are_the_templates(service: RunningService) -> None:
    scoped = service.client(token=await service.make_token("viewer", "alice"))
    listed = await scoped.exchanges.ListSupportedExchanges(pb.ListSupportedExchangesRequest())
    assert {template.id: list(template.required_fields) for template in listed.exchanges} == {
        "aster": ["aster_user", "aster_signer", "aster_private_key"],
        "binance": ["api_key", "secret_key"],
        "hyperliquid": ["api_key", "hyperliquid_wallet_addr"],
    }
    await create(service)
    first = await scoped.exchanges.ListSupportedExchanges(pb.ListSupportedExchangesRequest(page_size=3))
    request = pb.ListSupportedExchangesRequest(page_token=first.next_page_token)
    rest = await scoped.exchanges.ListSupportedExchanges(request)
    assert rest.exchanges == [pb.SupportedExchange(id="okx", name="Binance", type="cex", required_fields=["api_key"])]


@pytest.mark.parametrize(
    ("id", "type", "fields", "missing"),
    [
        ("binance", "cex", {"api_key": "k"}, ["secret_key"]),
        ("main", "binance", {}, ["api_key", "secret_key"]),
        ("hyperliquid", "dex", {"api_key": "k", "secret_key": "s"}, ["hyperliquid_wallet_addr"]),
        ("aster", "dex", {"api_key": "k", "aster_user": "u"}, ["aster_signer", "aster_private_key"]),
        ("okx", "cex", {"secret_key": "s"}, ["api_key"]),
        ("okx", "cex", {"api_key": "k"}, []),
    ],
)
def test_what_an_exchange_lacks_to_trade(id: str, type: str, fields: dict[str, str], missing: list[str]) -> None:
    names = ("api_key", "secret_key", "hyperliquid_wallet_addr", "aster_user", "aster_signer", "aster_private_key")
    values: dict[str, Any] = dict.fromkeys(names, "") | fields
    exchange = Exchange(id=id, user_id="u", name="N", type=type, enabled=True, testnet=False, **values, **UNWRITTEN)
    assert missing_fields(exchange) == missing
