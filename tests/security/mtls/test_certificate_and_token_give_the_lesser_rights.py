"""Of a certificate and a token that are shown together both must be valid, and only what both allow is allowed."""

from datetime import UTC, datetime

import grpc
import pytest

from nofx_grpc.v1 import system_config_pb2, users_pb2
from tests.security.mtls.callers import ALLOWED, PERMISSIONS, client_of, denied, may
from tests.support.certificates import MutualTls
from tests.support.service import RunningService, refused
from tests.support.watching import create_exchange

Code = grpc.StatusCode


@pytest.mark.parametrize("by_certificate", ALLOWED)
@pytest.mark.parametrize("by_token", ALLOWED)
async def test_of_certificate_and_token_the_lesser_rights_count(
    service: RunningService, mtls: MutualTls, by_certificate: str, by_token: str
) -> None:
    client = client_of(service, mtls, by_certificate, await service.make_token(by_token))
    assert await may(client) == ALLOWED[by_certificate] & ALLOWED[by_token] & PERMISSIONS


async def test_both_are_on_record(service: RunningService, mtls: MutualTls) -> None:
    await service.add_users("ada")
    client = client_of(service, mtls, "gateway", await service.make_token("admin", id="t-1"))
    await create_exchange(client, "okx", "ada")
    record = await service.last_record("principal", "role")
    assert record == ("spiffe://nofx.test/gateway+token:t-1", "gateway+admin")


async def test_a_gateway_reads_no_more_of_the_system_by_an_admins_token(
    service: RunningService, mtls: MutualTls
) -> None:
    token = await service.make_token("admin", reveal_system=True)
    client = client_of(service, mtls, "gateway", token)
    wanted = system_config_pb2.AccessSystemSecretRequest(key="jwt_secret")
    assert (await client.system_config.AccessSystemSecret(wanted)).value
    wanted.key = "coin_pool_api_url"
    await refused(client.system_config.AccessSystemSecret(wanted), Code.PERMISSION_DENIED, "PERMISSION_DENIED")


@pytest.mark.parametrize(
    ("path", "of_token", "sees"),
    [
        ("ada/gateway", "", {"ada"}),
        ("gateway", "ada", {"ada"}),
        ("ada/gateway", "ada", {"ada"}),
        ("ada/gateway", "bob", None),
        ("gateway", "", {"ada", "bob", "default"}),
    ],
)
async def test_of_two_scopes_the_narrower_counts_and_contradictions_are_refused(
    service: RunningService, mtls: MutualTls, path: str, of_token: str, sees: set[str] | None
) -> None:
    await service.add_users("ada", "bob")
    client = client_of(service, mtls, path, await service.make_token("gateway", of_token))
    if sees is None:
        assert await denied(client) == "the certificate and the token are for different users"
        return
    listed = await client.users.ListUsers(users_pb2.ListUsersRequest())
    assert {user.id for user in listed.users} == sees


async def test_both_must_be_valid(service: RunningService, mtls: MutualTls) -> None:
    revoked = await service.make_token("admin", revoked_at=datetime.now(UTC), id="t-1")
    assert await denied(client_of(service, mtls, "admin", revoked)) == "the token was revoked"
    assert await service.last_record("principal", "outcome") == ("token:t-1", "DENIED")
    assert await denied(client_of(service, mtls, "admin", "nofx_" + 43 * "A")) == "the token is not known"
    stranger = await denied(client_of(service, mtls, "nobody", await service.make_token("admin")))
    assert stranger == "the certificate's name 'spiffe://nofx.test/nobody' gives it no rights here"
    assert await service.last_record("principal", "outcome") == ("spiffe://nofx.test/nobody", "DENIED")


async def test_a_bootstrap_token_is_of_no_use_there(service: RunningService, mtls: MutualTls) -> None:
    """What forwards connections from other machines to that listener must not make them local."""
    text = await denied(client_of(service, mtls, "admin", service.token("admin")))
    assert text.startswith("a bootstrap token works on loopback and Unix sockets only")
