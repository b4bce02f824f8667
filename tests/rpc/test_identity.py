"""Who calls: bearer tokens and their ends; reflection for whoever has one, health for all."""

from datetime import timedelta
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from nofx_grpc.errors import Unauthenticated
from nofx_grpc.rpc.credentials import is_local
from nofx_grpc.rpc.identity import Tokens
from nofx_grpc.v1 import exchanges_pb2 as pb
from nofx_grpc.v1 import exchanges_pb2_grpc
from tests.support.clock import START, FakeClock
from tests.support.rpcs import SERVICES
from tests.support.service import Client, RunningService, refusal_of, refused

Code = grpc.StatusCode

BINANCE = pb.GetExchangeRequest(user_id="default", id="binance")
UNKNOWN = "nofx_" + 43 * "A"


def call(client: Client, **metadata: str) -> Any:
    return client.exchanges.GetExchange(BINANCE, metadata=tuple(metadata.items()))


@pytest.mark.parametrize(
    ("authorization", "text"),
    [
        (None, "no credential: send the metadata 'authorization: Bearer <token>'"),
        ("", "the authorization metadata is not of the form 'Bearer <token>'"),
        ("Bearer", "the authorization metadata is not of the form 'Bearer <token>'"),
        ("Basic YTpi", "the authorization metadata is not of the form 'Bearer <token>'"),
        (f"Bearer {UNKNOWN}", "the token is not known"),
        ("Bearer x", "the token is not known"),
    ],
)
async def test_no_valid_credential(service: RunningService, authorization: str | None, text: str) -> None:
    metadata = {} if authorization is None else {"authorization": authorization}
    async with service.nothing_written():
        refusal = await refused(call(service.anonymous(), **metadata), Code.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert refusal.text == text
    assert await service.last_record("principal", "outcome", "reason") == ("anonymous", "DENIED", "UNAUTHENTICATED")
    assert UNKNOWN not in str(await service.rows("SELECT * FROM audit_log"))


async def test_the_scheme_may_be_written_in_any_case(service: RunningService) -> None:
    assert (await call(service.anonymous(), authorization=f"bearer {service.token('viewer')}")).id == "binance"


async def test_a_revoked_token(service: RunningService) -> None:
    client = service.client(token=await service.make_token("admin", revoked_at=START))
    refusal = await refused(call(client), Code.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert refusal.text == "the token was revoked"


async def test_a_token_expires(service: RunningService, clock: FakeClock) -> None:
    client = service.client(token=await service.make_token("admin", expires_at=START + timedelta(hours=1)))
    clock.advance(minutes=59, seconds=59)
    assert (await call(client)).id == "binance"
    clock.advance(seconds=1)
    refusal = await refused(call(client), Code.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert refusal.text == "the token has expired"


async def test_a_token_with_a_role_that_is_none_may_do_nothing(service: RunningService) -> None:
    client = service.client(token=await service.make_token("root", reveal=True))
    await refused(call(client), Code.PERMISSION_DENIED, "PERMISSION_DENIED")


async def test_only_the_hash_of_a_token_is_stored(service: RunningService) -> None:
    secret = await service.make_token("admin")
    assert secret not in str(await service.contents())


async def test_a_bootstrap_token_works_on_this_machine_only(service: RunningService, clock: FakeClock) -> None:
    tokens = Tokens(service.app.db, clock)
    header = f"Bearer {service.token('admin')}"
    assert (await tokens.identify(header, local=True)).principal == "token:bootstrap-admin"
    with pytest.raises(Unauthenticated, match="loopback and Unix sockets only"):
        await tokens.identify(header, local=False)
    made = await service.make_token("admin")
    assert (await tokens.identify(f"Bearer {made}", local=False)).role == "admin"


@pytest.mark.parametrize(
    ("peer", "local"),
    [
        ("ipv4:127.0.0.1:4711", True),
        ("ipv4:127.8.0.1:4711", True),
        ("ipv6:[::1]:4711", True),
        ("ipv6:%5B::1%5D:4711", True),
        ("unix:", True),
        ("unix:/run/nofx.sock", True),
        ("ipv4:10.0.0.1:4711", False),
        ("ipv4:1.127.0.0:4711", False),
        ("ipv6:[::10]:4711", False),
        ("ipv6:[fe80::1]:4711", False),
        ("ipv6:[::ffff:10.0.0.1]:4711", False),
        ("", False),
    ],
)
def test_what_is_this_machine(peer: str, local: bool) -> None:
    assert is_local(peer) is local


@pytest.mark.parametrize(
    "secret", ["nofx_" + 44 * "A", "nofx_" + 42 * "A", "NOFX_" + 43 * "A", 6_000 * "A", "nofx_\u00e4"]
)
async def test_what_cannot_be_a_token_costs_the_store_nothing(
    service: RunningService, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setattr(service.app.db, "read", None)
    with pytest.raises(Unauthenticated, match="the token is not known"):
        await Tokens(service.app.db, clock).identify(f"Bearer {secret}", local=True)


async def test_a_credential_of_the_wrong_type(service: RunningService, clock: FakeClock) -> None:
    header = f"Bearer {service.token('admin')}".encode()
    with pytest.raises(Unauthenticated, match="not of the form"):
        await Tokens(service.app.db, clock).identify(header, local=True)


@pytest.mark.parametrize(
    ("names", "text"),
    [(["authorization-bin"], "no credential"), (["authorization", "authorization"], "more than one credential")],
)
async def test_credentials_that_are_not_one(service: RunningService, names: list[str], text: str) -> None:
    header = f"Bearer {service.token('admin')}"
    metadata = [(name, header.encode() if name.endswith("-bin") else header) for name in names]
    stub: Any = exchanges_pb2_grpc.ExchangesStub(service.anonymous().channel)
    refusal = await refused(stub.GetExchange(BINANCE, metadata=metadata), Code.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert refusal.text.startswith(text)


async def test_a_token_is_asked_for_once_a_second(
    service: RunningService, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("nofx_grpc.rpc.identity.time.monotonic", lambda: now)
    tokens = Tokens(service.app.db, clock)
    header = f"Bearer {service.token('viewer')}"
    await tokens.identify(header, local=True)
    await service.execute("UPDATE tokens SET revoked_at = '2026-01-01' WHERE role = 'viewer'")
    now = 100.99
    await tokens.identify(header, local=True)
    now = 101.0
    with pytest.raises(Unauthenticated, match="revoked"):
        await tokens.identify(header, local=True)


# ---- reflection and health


async def reflected(client: Client) -> set[str]:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    stream = reflection_pb2_grpc.ServerReflectionStub(client.channel).ServerReflectionInfo(iter([request]))
    return {service.name async for answer in stream for service in answer.list_services_response.service}


async def test_reflection_needs_a_credential(service: RunningService) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await reflected(service.anonymous())
    refusal = refusal_of(caught.value)
    assert (refusal.code, refusal.reason) == (Code.UNAUTHENTICATED, "UNAUTHENTICATED")
    method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    assert await service.last_record("principal", "method", "outcome") == ("anonymous", method, "DENIED")


async def test_an_unexpected_error_of_reflection_is_told_by_an_id_only(service: RunningService) -> None:
    await service.execute("DROP TABLE tokens")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        header = ("authorization", f"Bearer {service.token('viewer')}")
        stub = reflection_pb2_grpc.ServerReflectionStub(service.anonymous().channel)
        await stub.ServerReflectionInfo(iter([]), metadata=(header,)).read()
    refusal = refusal_of(caught.value)
    assert (refusal.code, refusal.reason) == (Code.INTERNAL, "INTERNAL")
    assert "tokens" not in refusal.text


async def test_reflection_tells_of_every_service(service: RunningService) -> None:
    header = {"authorization": f"Bearer {service.token('viewer')}"}
    stub = reflection_pb2_grpc.ServerReflectionStub(service.anonymous().channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    stream = stub.ServerReflectionInfo(iter([request]), metadata=tuple(header.items()))
    names = {found.name async for answer in stream for found in answer.list_services_response.service}
    assert names >= {service.full_name for service in SERVICES}


@pytest.mark.parametrize("name", ["", *(service.full_name for service in SERVICES)])
async def test_health_is_open_to_all(service: RunningService, name: str) -> None:
    stub: Any = health_pb2_grpc.HealthStub(service.anonymous().channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
