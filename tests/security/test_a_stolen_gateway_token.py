"""A thief with a gateway's token, followed through: what it reaches, what it does not, and what it leaves behind.

It may change things, for that is a gateway's work. It gets no user's secret, by any rpc or stream, and it cannot have a
stored one sent to a place of its own. What it can do is in docs/security.md, too.
"""

from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from nofx_grpc.services.roles import permissions_of
from nofx_grpc.v1 import (
    audit_pb2,
    common_pb2,
    exchanges_pb2,
    models_pb2,
    signal_sources_pb2,
    system_config_pb2,
    traders_pb2,
)
from tests.support.rpcs import METHODS, call_raw, permission_of, request_about
from tests.support.service import Client, RunningService, refused

Code = grpc.StatusCode

# Test data: words that no other text holds.
SECRETS = ("stolen-model-key", "stolen-api-key", "stolen-secret-key", "stolen-url-token")
THIEF = "https://thief.example.com/v1"


@pytest.fixture
async def thief(service: RunningService) -> Client:
    """A client with a gateway's token, in a store where a user has secrets of every kind."""
    await service.add_users("ada")
    admin = service.client()
    await admin.models.CreateModel(
        models_pb2.CreateModelRequest(
            user_id="ada",
            model_id="m",
            model=models_pb2.Model(name="M", provider="deepseek", enabled=True, api_key=SECRETS[0]),
        )
    )
    exchange = exchanges_pb2.Exchange(name="B", type="cex", enabled=True, api_key=SECRETS[1], secret_key=SECRETS[2])
    await admin.exchanges.CreateExchange(
        exchanges_pb2.CreateExchangeRequest(user_id="ada", exchange_id="binance", exchange=exchange)
    )
    source = signal_sources_pb2.SignalSource(user_id="ada", coin_pool_url=f"https://x.example.com/?auth={SECRETS[3]}")
    await admin.signal_sources.SetSignalSource(signal_sources_pb2.SetSignalSourceRequest(signal_source=source))
    trader = traders_pb2.Trader(name="T", ai_model_id="m", exchange_id="binance", initial_balance=1)
    await admin.traders.CreateTrader(traders_pb2.CreateTraderRequest(user_id="ada", trader_id="t", trader=trader))
    return service.client(token=await service.make_token("gateway"))


def request_of(name: str) -> Any:
    """A request about what there is: the user, and its one model, exchange or trader."""
    request: Any = request_about(METHODS[name], "ada")
    ids = {"trader_id": "t", "exchange_id": "binance", "model_id": "m", "key": "coin_pool_api_url"}
    id = {"Models": "m", "Exchanges": "binance", "Traders": "t", "Users": "ada"}.get(name.partition(".")[0], "")
    for field, value in (ids | {"id": id, "send_initial_state": True}).items():
        if field in request.DESCRIPTOR.fields_by_name and not name.rpartition(".")[2].startswith(("Create", "Delete")):
            setattr(request, field, value)
    return request


async def answer_of(thief: Client, name: str) -> tuple[str, bytes]:
    """The code of an rpc, and all the bytes of its answer or of its error."""
    try:
        return "OK", await call_raw(thief, METHODS[name], request_of(name).SerializeToString())
    except grpc.aio.AioRpcError as error:
        details = b"".join(
            value if isinstance(value, bytes) else str(value).encode() for _, value in error.trailing_metadata() or ()
        )
        return error.code().name, str(error.details()).encode() + details


async def test_no_rpc_and_no_stream_gives_it_a_secret(service: RunningService, thief: Client) -> None:
    answered = {}
    for name in METHODS:
        if name == "Users.DeleteUser":  # which it may not, and which would leave nothing to steal
            continue
        code, content = await answer_of(thief, name)
        answered[name] = code
        assert not [secret for secret in SECRETS if secret.encode() in content], name
        if permission_of(METHODS[name]) == "REVEAL":
            assert code == "PERMISSION_DENIED", name
    assert answered["Models.GetModel"] == answered["Traders.ListTraders"] == answered["Watch.Watch"] == "OK"


@pytest.mark.parametrize(
    "fields", [{"custom_api_url": THIEF}, {"provider": "qwen"}, {"custom_api_url": THIEF, "api_key": ""}]
)
async def test_it_cannot_have_a_stored_key_sent_elsewhere(thief: Client, fields: dict[str, Any]) -> None:
    model = models_pb2.Model(user_id="ada", id="m", **fields)
    request = models_pb2.UpdateModelRequest(model=model)
    await refused(thief.models.UpdateModel(request), Code.FAILED_PRECONDITION, "SECRET_MUST_BE_REENTERED")


@pytest.mark.parametrize("fields", [{"type": "dex"}, {"testnet": True}])
async def test_it_cannot_have_stored_credentials_sent_elsewhere(thief: Client, fields: dict[str, Any]) -> None:
    exchange = exchanges_pb2.Exchange(user_id="ada", id="binance", **fields)
    request = exchanges_pb2.UpdateExchangeRequest(exchange=exchange)
    await refused(thief.exchanges.UpdateExchange(request), Code.FAILED_PRECONDITION, "SECRET_MUST_BE_REENTERED")


async def test_who_redirects_a_key_by_giving_one_has_replaced_it(service: RunningService, thief: Client) -> None:
    """This a gateway may do: the engine then sends the thief's own key to the thief, and the stored one is gone."""
    model = models_pb2.Model(user_id="ada", id="m", custom_api_url=THIEF, api_key="of the thief")
    mask = FieldMask(paths=["custom_api_url", "api_key"])
    await thief.models.UpdateModel(models_pb2.UpdateModelRequest(model=model, update_mask=mask))
    wanted = traders_pb2.GetTraderConfigRequest(user_id="ada", trader_id="t")
    config = await service.client("engine").traders.GetTraderConfig(wanted)
    assert config.model_credentials.api_key == "of the thief"
    assert SECRETS[0] not in str(config.SerializeToString())


async def test_of_the_systems_secrets_it_reads_the_jwt_secret_alone(thief: Client) -> None:
    """That one a gateway needs to know its own users; change it where a gateway's token was stolen."""
    reveal = thief.system_config.AccessSystemSecret
    assert (await reveal(system_config_pb2.AccessSystemSecretRequest(key="jwt_secret"))).value
    for key in ("coin_pool_api_url", "oi_top_api_url"):
        await refused(
            reveal(system_config_pb2.AccessSystemSecretRequest(key=key)), Code.PERMISSION_DENIED, "PERMISSION_DENIED"
        )


async def test_it_does_nothing_that_is_an_admins(thief: Client) -> None:
    for name, method in METHODS.items():
        if permission_of(method) == "ADMIN":
            code, _ = await answer_of(thief, name)
            assert code == "PERMISSION_DENIED", name


async def test_what_it_tries_is_on_the_record_and_ends_with_the_token(service: RunningService, thief: Client) -> None:
    await answer_of(thief, "Traders.GetTraderConfig")
    model = models_pb2.Model(user_id="ada", id="m", name="mine")
    await thief.models.UpdateModel(models_pb2.UpdateModelRequest(model=model))
    admin = service.client()
    tokens = await service.rows("SELECT id FROM tokens WHERE bootstrap = false")
    ((id,),) = tokens
    found = await admin.admin.ListAuditEvents(audit_pb2.ListAuditEventsRequest(principal=f"token:{id}"))
    told = {(event.method.rpartition("/")[2], event.outcome) for event in found.events}
    assert ("GetTraderConfig", audit_pb2.AUDIT_OUTCOME_DENIED) in told
    assert ("UpdateModel", audit_pb2.AUDIT_OUTCOME_OK) in told


def test_the_gateways_role_has_these_permissions() -> None:
    """Whoever widens the role meets this test, and what is said above."""
    granted = permissions_of("gateway", reveal=False, reveal_system=False)
    names = {common_pb2.Permission.Name(value).removeprefix("PERMISSION_") for value in granted}
    assert names == {"READ", "WRITE", "RUN", "LOGIN", "REVEAL_SYSTEM"}
