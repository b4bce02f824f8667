"""Over the listener for certificates nobody gets in but by a name that the policy grants something, and no further."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from nofx_grpc.v1 import admin_pb2, users_pb2
from tests.security.mtls.callers import ALLOWED, BINANCE, PERMISSIONS, client_of, denied, get, may
from tests.support.certificates import DNS, EMAIL, URI, Authority, MutualTls, Pair, spiffe
from tests.support.service import Client, RunningService, refused
from tests.support.watching import create_exchange

Code = grpc.StatusCode


async def shut_out(client: Client) -> None:
    """TLS itself lets nobody in: the server never hears of the call."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.exchanges.GetExchange(BINANCE, timeout=5)
    assert caught.value.code() is Code.UNAVAILABLE


@pytest.mark.parametrize("role", ALLOWED)
async def test_a_certificate_has_its_role(service: RunningService, mtls: MutualTls, role: str) -> None:
    assert await may(client_of(service, mtls, role)) == ALLOWED[role] & PERMISSIONS


async def test_a_grant_may_say_that_an_admin_reveals(service: RunningService, mtls: MutualTls) -> None:
    assert await may(client_of(service, mtls, "auditor")) == PERMISSIONS


async def test_who_it_was_is_on_record(service: RunningService, mtls: MutualTls) -> None:
    await create_exchange(client_of(service, mtls, "admin"), "okx")
    record = await service.last_record("principal", "role", "outcome")
    assert record == ("spiffe://nofx.test/admin", "admin", "OK")


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("teams/ops", "viewer"),
        ("teams/ops/x/y", "viewer"),
        ("teams/trading/eu", "engine"),
        ("teams/trading/intern", "viewer"),
        ("teams/trading/intern/x", "engine"),
        ("teams", None),
        ("teamsters/x", None),
        ("engine/x", None),
        ("engin", None),
        ("Engine", None),
    ],
)
async def test_a_prefix_is_one_of_whole_segments(
    service: RunningService, mtls: MutualTls, path: str, role: str | None
) -> None:
    client = client_of(service, mtls, path)
    if role is None:
        assert spiffe(path) in await denied(client)
    else:
        assert await may(client) == ALLOWED[role] & PERMISSIONS


ID = spiffe("admin")

LOOKALIKES: dict[str, tuple[Any, ...]] = {
    "as a DNS name": (DNS(ID),),
    "as an e-mail address": (EMAIL(ID),),
    "as a DNS name beside another URI": (DNS(ID), URI("https://nofx.test/admin")),
    "of two ids": (URI(ID), URI(spiffe("viewer"))),
    "beside another URI": (URI(ID), URI("https://nofx.test/")),
    "twice": (URI(ID), URI(ID)),
    "scheme in another case": (URI("SPIFFE://nofx.test/admin"),),
    "trust domain in another case": (URI("spiffe://NOFX.test/admin"),),
    "path in another case": (URI("spiffe://nofx.test/ADMIN"),),
    "with a user": (URI("spiffe://admin@nofx.test/admin"),),
    "with a port": (URI("spiffe://nofx.test:443/admin"),),
    "with a query": (URI(ID + "?x=1"),),
    "with a fragment": (URI(ID + "#x"),),
    "percent-encoded": (URI("spiffe://nofx.test/%61dmin"),),
    "with a slash at its end": (URI(ID + "/"),),
    "with two slashes": (URI("spiffe://nofx.test//admin"),),
    "with dots": (URI("spiffe://nofx.test/x/../admin"),),
    "with one dot": (URI("spiffe://nofx.test/./admin"),),
    "with a blank": (URI(ID + " "),),
    "with a NUL": (URI(ID + "\x00.example"),),
    "with a line feed": (URI(ID + "\n"),),
    "without a path": (URI("spiffe://nofx.test"),),
    "of another trust domain": (URI("spiffe://nofx.test.evil.example/admin"),),
    "of the form of a prefix": (URI(spiffe("teams/*")),),
    "of a common name that was granted": (URI("cn:old engine"),),
    "too long": (URI(spiffe("teams/" + "a" * 2048)),),
}


@pytest.mark.parametrize("how", LOOKALIKES)
@pytest.mark.parametrize("common_name", [None, ID, "old engine"])
async def test_what_only_looks_like_a_spiffe_id_gives_nothing(
    service: RunningService, mtls: MutualTls, how: str, common_name: str | None
) -> None:
    pair = mtls.authority.issue(*LOOKALIKES[how], common_name=common_name)
    text = await denied(service.client_by_tls(mtls.channel_credentials(pair)))
    assert text.startswith("the certificate's ") and text.endswith(" gives it no rights here")
    assert (await service.last_record("outcome", "reason")) == ("DENIED", "UNAUTHENTICATED")


@pytest.mark.parametrize("common_name", [ID, "admin", "old engine ", "OLD ENGINE", "", "cn:old engine", "*"])
async def test_a_common_name_that_was_not_granted_gives_nothing(
    service: RunningService, mtls: MutualTls, common_name: str
) -> None:
    pair = mtls.authority.issue(common_name=common_name or None)
    await denied(service.client_by_tls(mtls.channel_credentials(pair)))


async def test_a_common_name_counts_where_there_is_no_other_name(service: RunningService, mtls: MutualTls) -> None:
    alone = service.client_by_tls(mtls.channel_credentials(mtls.authority.issue(common_name="old engine")))
    assert await may(alone) == ALLOWED["engine"] & PERMISSIONS
    beside = mtls.authority.issue(DNS("engine.example"), common_name="old engine")
    await denied(service.client_by_tls(mtls.channel_credentials(beside)))


async def test_a_dns_name_beside_the_id_does_no_harm(service: RunningService, mtls: MutualTls) -> None:
    pair = mtls.authority.issue(URI(spiffe("viewer")), DNS(ID), common_name=ID)
    assert await may(service.client_by_tls(mtls.channel_credentials(pair))) == ALLOWED["viewer"]


def _signed_by_a_client(mtls: MutualTls) -> Pair:
    """A certificate that the holder of another one has made."""
    rogue = Authority(parent=mtls.authority)
    rogue.pair = mtls.authority.workload("viewer")
    pair = rogue.issue(URI(ID))
    return Pair(pair.certificate, pair.private, (rogue.pair.certificate,))


STRANGERS: dict[str, Callable[[MutualTls], Pair | None]] = {
    "none at all": lambda _: None,
    "of another authority": lambda _: Authority("others").workload("admin"),
    "of another authority by the same name": lambda _: Authority().issue(URI(ID)),
    "signed by itself": lambda _: Authority(ID).pair,
    "expired": lambda mtls: mtls.authority.workload("admin", lifetime=timedelta(minutes=-1)),
    "of a server": lambda mtls: mtls.authority.issue(URI(ID), usage=ExtendedKeyUsageOID.SERVER_AUTH),
    "signed by a client": _signed_by_a_client,
}


@pytest.mark.parametrize("what", STRANGERS)
async def test_a_certificate_that_nobody_vouches_for_does_not_get_through(
    service: RunningService, mtls: MutualTls, what: str
) -> None:
    await shut_out(service.client_by_tls(mtls.channel_credentials(STRANGERS[what](mtls)), service.token("admin")))


async def test_an_authority_is_no_caller(service: RunningService, mtls: MutualTls) -> None:
    by_id = mtls.authority.issue(URI(ID), authority=True)
    by_common_name = mtls.authority.issue(common_name="old engine", authority=True)
    for pair in by_id, by_common_name:
        await denied(service.client_by_tls(mtls.channel_credentials(pair)))


async def test_an_authority_between_may_vouch(service: RunningService, mtls: MutualTls) -> None:
    between = Authority("between", parent=mtls.authority)
    client = service.client_by_tls(mtls.channel_credentials(between.workload("viewer")))
    assert (await get(client)).id == "binance"


async def test_plaintext_gets_no_answer(service: RunningService) -> None:
    plain = Client(service.app.server.mtls_address, service.token("admin"))
    service.clients.append(plain)
    await shut_out(plain)


async def test_the_other_listener_asks_for_no_certificate(service: RunningService, mtls: MutualTls) -> None:
    """A certificate that is shown there counts for nothing."""
    shown = mtls.channel_credentials(mtls.authority.workload("admin"))
    assert (await denied(service.client_by_tls(shown, address=service.address))).startswith("no credential")
    by_token = service.client_by_tls(mtls.channel_credentials(None), service.token("viewer"), service.address)
    assert (await get(by_token)).id == "binance"


# ---- limited to one user


async def test_a_grant_for_one_user_is_a_scope(service: RunningService, mtls: MutualTls) -> None:
    await service.add_users("ada", "bob")
    client = client_of(service, mtls, "ada/gateway")
    await create_exchange(client, "okx", "ada")
    await refused(create_exchange(client, "okx", "bob"), Code.NOT_FOUND, "NOT_FOUND")
    listing = users_pb2.ListUsersRequest()
    assert [user.id for user in (await client.users.ListUsers(listing)).users] == ["ada"]
    tokens = admin_pb2.ListTokensRequest()
    admin = client_of(service, mtls, "ada/admin")
    await refused(admin.admin.ListTokens(tokens), Code.PERMISSION_DENIED, "PERMISSION_DENIED")
