"""Admin over a real server: tokens are made, listed and revoked."""

from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from nofx_grpc.crypto.tokens import token_hash
from nofx_grpc.v1 import admin_pb2 as pb
from nofx_grpc.v1 import common_pb2, exchanges_pb2
from tests.support.clock import START, FakeClock
from tests.support.service import Client, RunningService, refused

Code = grpc.StatusCode

BINANCE = exchanges_pb2.GetExchangeRequest(user_id="default", id="binance")
BOOTSTRAP = ["bootstrap-admin", "bootstrap-engine", "bootstrap-gateway", "bootstrap-viewer"]


def stamp(**parts: float) -> Timestamp:
    """The time that is this long after the clock's start."""
    at = Timestamp()
    at.FromDatetime(START + timedelta(**parts))
    return at


def wanted(role: str = "viewer", **fields: Any) -> pb.Token:
    number = common_pb2.Role.Value(f"ROLE_{role.upper()}") if role else None
    named: dict[str, Any] = {"display_name": "dashboard", "role": number}
    return pb.Token(**named | fields)


async def create(
    service: RunningService, role: str = "viewer", request_id: str = "", by: Client | None = None, **fields: Any
) -> pb.Token:
    request = pb.CreateTokenRequest(token=wanted(role, **fields), request_id=request_id)
    return await (by or service.client()).admin.CreateToken(request)


async def who_reveals(service: RunningService) -> Client:
    """An admin who may read everything."""
    return service.client(token=await service.make_token("admin", reveal=True, reveal_system=True))


async def listed(service: RunningService) -> list[pb.Token]:
    return list((await service.client().admin.ListTokens(pb.ListTokensRequest())).tokens)


def read(client: Client) -> Any:
    return client.exchanges.GetExchange(BINANCE)


# ---- CreateToken


async def test_a_token_that_was_made_works(service: RunningService) -> None:
    made = await create(service)
    assert (await read(service.client(token=made.secret))).id == "binance"
    record = await service.last_record("principal", "method", "resources", "outcome")
    assert record == (
        "token:bootstrap-admin",
        "/nofx_grpc.v1.Admin/CreateToken",
        f"create token /{made.id}",
        "OK",
    )


async def test_the_answer_tells_what_the_token_is(service: RunningService) -> None:
    by = await who_reveals(service)
    made = await create(service, "admin", by=by, user_id="default", reveal=True, expire_time=stamp(days=1))
    secret = made.secret
    assert secret.startswith("nofx_") and made.id
    expected = wanted("admin", user_id="default", reveal=True, reveal_system=False, expire_time=stamp(days=1))
    expected.id, expected.secret, expected.bootstrap = made.id, secret, False
    expected.create_time.CopyFrom(stamp())
    assert made == expected


async def test_the_secret_is_in_that_answer_only(service: RunningService) -> None:
    made = await create(service)
    assert [token for token in await listed(service) if token.secret] == []
    assert made.secret not in str(await service.contents())
    assert (token_hash(made.secret),) in await service.rows("SELECT hash FROM tokens")


async def test_a_token_has_neither_revision_nor_place_in_the_change_log(service: RunningService) -> None:
    before = await service.revision(), await service.rows("SELECT * FROM change_log")
    made = await create(service)
    await service.client().admin.RevokeToken(pb.RevokeTokenRequest(id=made.id))
    assert (await service.revision(), await service.rows("SELECT * FROM change_log")) == before


async def test_output_only_fields_of_the_request_do_not_count(service: RunningService) -> None:
    made = await create(service, id="chosen", secret="chosen", bootstrap=True, revoke_time=stamp())
    assert made.id != "chosen" and made.secret != "chosen" and not made.bootstrap and not made.HasField("revoke_time")


async def test_a_repeated_request_gets_the_first_answer(service: RunningService) -> None:
    first = await create(service, request_id="r-1")
    assert await create(service, request_id="r-1") == first
    assert len(await listed(service)) == len(BOOTSTRAP) + 1
    await refused(create(service, "admin", request_id="r-1"), Code.INVALID_ARGUMENT, "REQUEST_ID_REUSED")


@pytest.mark.parametrize(
    ("fields", "violations"),
    [
        ({"display_name": None}, {"token.display_name": "is required for a new token"}),
        ({"role": ""}, {"token.role": "is required for a new token"}),
        ({"reveal": True}, {"token.reveal": "is for the role ROLE_ADMIN only: what other roles may read is fixed"}),
        (
            {"reveal_system": True},
            {"token.reveal_system": "is for the role ROLE_ADMIN only: what other roles may read is fixed"},
        ),
        ({"expire_time": stamp()}, {"token.expire_time": "must be in the future, and before the year 10000"}),
        ({"expire_time": stamp(days=-1)}, {"token.expire_time": "must be in the future, and before the year 10000"}),
        (
            {"expire_time": Timestamp(seconds=2**60)},
            {"token.expire_time": "must be in the future, and before the year 10000"},
        ),
    ],
)
async def test_a_token_that_cannot_be(
    service: RunningService, fields: dict[str, Any], violations: dict[str, str]
) -> None:
    async with service.nothing_written():
        refusal = await refused(create(service, **fields), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert refusal.violations == violations


async def test_a_token_for_a_user_who_does_not_exist(service: RunningService) -> None:
    async with service.nothing_written():
        refusal = await refused(create(service, user_id="nobody"), Code.NOT_FOUND, "NOT_FOUND")
    assert refusal.text == "no user with id 'nobody'"


async def test_the_flags_of_an_admin_let_it_read_secrets(service: RunningService) -> None:
    request = exchanges_pb2.AccessExchangeCredentialsRequest(user_id="default", id="binance")
    by = await who_reveals(service)
    plain, revealing = await create(service, "admin", by=by), await create(service, "admin", by=by, reveal=True)
    may_not = service.client(token=plain.secret).exchanges.AccessExchangeCredentials(request)
    await refused(may_not, Code.PERMISSION_DENIED, "PERMISSION_DENIED")
    answer = await service.client(token=revealing.secret).exchanges.AccessExchangeCredentials(request)
    assert answer.HasField("credentials")


# ---- ListTokens


async def test_tokens_are_listed_by_id_page_by_page(service: RunningService) -> None:
    for _ in range(3):
        await create(service)
    whole = [token.id for token in await listed(service)]
    assert whole == sorted(whole) and set(BOOTSTRAP) < set(whole) and len(whole) == len(BOOTSTRAP) + 3
    paged: list[str] = []
    token = ""
    while True:
        request = pb.ListTokensRequest(page_size=2, page_token=token)
        page = await service.client().admin.ListTokens(request)
        assert len(page.tokens) <= 2
        paged += [token.id for token in page.tokens]
        if not (token := page.next_page_token):
            break
    assert paged == whole


async def test_the_first_tokens_are_marked(service: RunningService) -> None:
    await create(service)
    assert [token.id for token in await listed(service) if token.bootstrap] == BOOTSTRAP


async def test_when_a_token_was_used_last_is_noted_in_the_background(service: RunningService, clock: FakeClock) -> None:
    made = await create(service)
    revision = await service.revision()
    await read(service.client(token=made.secret))
    clock.advance(minutes=1)
    await service.app.housekeeping.sweep()
    used = {token.id: token.last_use_time for token in await listed(service) if token.HasField("last_use_time")}
    assert used == {made.id: stamp(minutes=1), "bootstrap-admin": stamp(minutes=1)}
    assert await service.revision() == revision


# ---- RevokeToken


async def test_a_revoked_token_stops_within_a_second(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await create(service)
    client = service.client(token=made.secret)
    await read(client)
    revoked = (await service.client().admin.RevokeToken(pb.RevokeTokenRequest(id=made.id))).token
    assert revoked.revoke_time == stamp()
    known = service.app.housekeeping.tokens
    monkeypatch.setattr(known, "_known", {hash: (until - 1.0, token) for hash, (until, token) in known._known.items()})
    refusal = await refused(read(client), Code.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert refusal.text == "the token was revoked"


async def test_revoking_again_changes_nothing(service: RunningService, clock: FakeClock) -> None:
    made = await create(service)
    request = pb.RevokeTokenRequest(id=made.id)
    first = await service.client().admin.RevokeToken(request)
    clock.advance(hours=1)
    assert await service.client().admin.RevokeToken(request) == first


async def test_a_token_that_does_not_exist(service: RunningService) -> None:
    revoke = service.client().admin.RevokeToken(pb.RevokeTokenRequest(id="nothing"))
    refusal = await refused(revoke, Code.NOT_FOUND, "NOT_FOUND")
    assert refusal.text == "no token with id 'nothing'"


# ---- who may


@pytest.mark.parametrize("role", ["gateway", "engine", "viewer"])
async def test_tokens_are_for_admins(service: RunningService, role: str) -> None:
    admin = service.client(role).admin
    async with service.nothing_written():
        for call in (
            admin.CreateToken(pb.CreateTokenRequest(token=wanted("admin"))),
            admin.ListTokens(pb.ListTokensRequest()),
            admin.RevokeToken(pb.RevokeTokenRequest(id="bootstrap-admin")),
        ):
            await refused(call, Code.PERMISSION_DENIED, "PERMISSION_DENIED")


async def test_an_admin_limited_to_one_user_makes_no_tokens(service: RunningService) -> None:
    scoped = service.client(token=(await create(service, "admin", user_id="default")).secret).admin
    async with service.nothing_written():
        call = scoped.CreateToken(pb.CreateTokenRequest(token=wanted("admin", user_id="default")))
        await refused(call, Code.PERMISSION_DENIED, "PERMISSION_DENIED")


# ---- a token may do no more than its maker

MAKERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "reveal": {"reveal": True},
    "reveal_system": {"reveal_system": True},
    "both": {"reveal": True, "reveal_system": True},
}
WANTED: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "viewer": ("viewer", {}, {"plain", "reveal", "reveal_system", "both"}),
    "admin": ("admin", {}, {"plain", "reveal", "reveal_system", "both"}),
    "engine": ("engine", {}, {"reveal", "both"}),
    "gateway": ("gateway", {}, {"reveal_system", "both"}),
    "admin that reveals": ("admin", {"reveal": True}, {"reveal", "both"}),
    "admin that reveals the system": ("admin", {"reveal_system": True}, {"reveal_system", "both"}),
    "admin that reveals everything": ("admin", {"reveal": True, "reveal_system": True}, {"both"}),
}


@pytest.mark.parametrize("maker", MAKERS)
async def test_no_token_may_do_more_than_its_maker(service: RunningService, maker: str) -> None:
    by = service.client(token=await service.make_token("admin", **MAKERS[maker]))
    for role, fields, makers in WANTED.values():
        for user_id in ("", "default"):
            if maker in makers:
                assert (await create(service, role, by=by, user_id=user_id, **fields)).secret
                continue
            async with service.nothing_written():
                call = create(service, role, by=by, user_id=user_id, **fields)
                refusal = await refused(call, Code.PERMISSION_DENIED, "PERMISSION_DENIED")
            assert "which its maker does not have" in refusal.text
            assert await service.last_record("method", "outcome") == ("/nofx_grpc.v1.Admin/CreateToken", "DENIED")


async def test_an_admin_does_not_come_to_secrets_by_tokens_that_it_makes(service: RunningService) -> None:
    """Whatever chain of tokens it makes, none of them reveals."""
    tokens = [service.token("admin")]
    for _ in range(2):
        by = service.client(token=tokens[-1])
        for role, fields, _ in WANTED.values():
            try:
                tokens.append((await create(service, role, by=by, **fields)).secret)
            except grpc.aio.AioRpcError as error:
                assert error.code() is Code.PERMISSION_DENIED
    request = exchanges_pb2.AccessExchangeCredentialsRequest(user_id="default", id="binance")
    assert len(tokens) == 5
    for token in tokens:
        call = service.client(token=token).exchanges.AccessExchangeCredentials(request)
        await refused(call, Code.PERMISSION_DENIED, "PERMISSION_DENIED")
