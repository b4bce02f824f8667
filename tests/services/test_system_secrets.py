"""The secrets of the system configuration over a real server: sealed, revealed on the record, made at a start."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from nofx_grpc.crypto.envelope import Location
from nofx_grpc.v1 import system_config_pb2 as pb
from tests.support.config import JWT, URL, WORD, assert_hidden, client_of, get, reveal, set_all
from tests.support.service import RunningService, refused, running_service

Code = grpc.StatusCode


async def test_a_secret_is_sealed_and_never_echoed(service: RunningService) -> None:
    entries = await set_all(service, {"jwt_secret": JWT, "coin_pool_api_url": URL})
    listed = await client_of(service, "admin").ListSystemConfig(pb.ListSystemConfigRequest())
    for answer in (*entries, listed, await get(service, "jwt_secret", "admin")):
        assert_hidden(answer)
    assert all(entry.value_set and len(entry.value_fingerprint) == 8 for entry in entries)
    assert [entry.value_redacted for entry in entries] == ["", "https://pool.example.com:8443/api/coins"]
    assert WORD not in str(await service.contents())
    (changed,) = await set_all(service, {"jwt_secret": JWT + "2"})
    assert changed.value_fingerprint != entries[0].value_fingerprint


async def test_an_empty_value_clears_a_url(service: RunningService) -> None:
    await set_all(service, {"coin_pool_api_url": URL})
    (cleared,) = await set_all(service, {"coin_pool_api_url": ""})
    assert (cleared.value_set, cleared.value_fingerprint, cleared.value_redacted) == (False, "", "")
    admin = service.client(token=await service.make_token("admin", reveal_system=True))
    await refused(reveal(admin, "coin_pool_api_url"), Code.NOT_FOUND, "NOT_FOUND")


async def test_a_gateway_reads_the_jwt_secret_on_the_record(service: RunningService) -> None:
    (entry,) = await set_all(service, {"jwt_secret": JWT})
    assert await reveal(service.client("gateway"), "jwt_secret") == pb.AccessSystemSecretResponse(
        value=JWT, revision=entry.revision
    )
    record = await service.last_record("principal", "method", "resources", "outcome", "revision")
    method = "/nofx_grpc.v1.SystemConfig/AccessSystemSecret"
    assert record == ("token:bootstrap-gateway", method, "jwt_secret", "OK", entry.revision)


async def test_a_gateway_reads_no_other_secret(service: RunningService) -> None:
    await set_all(service, {"coin_pool_api_url": URL})
    refusal = await refused(
        reveal(service.client("gateway"), "coin_pool_api_url"), Code.PERMISSION_DENIED, "PERMISSION_DENIED"
    )
    assert refusal.text == "the role 'gateway' may read 'jwt_secret' only, not 'coin_pool_api_url'"
    assert await service.last_record("resources", "outcome") == ("coin_pool_api_url", "DENIED")


async def test_an_admin_reads_secrets_if_its_token_says_so(service: RunningService) -> None:
    await set_all(service, {"coin_pool_api_url": URL})
    await refused(reveal(service.client(), "coin_pool_api_url"), Code.PERMISSION_DENIED, "PERMISSION_DENIED")
    admin = service.client(token=await service.make_token("admin", reveal_system=True))
    assert (await reveal(admin, "coin_pool_api_url")).value == URL


async def test_what_is_no_secret_is_not_revealed(service: RunningService) -> None:
    admin = service.client(token=await service.make_token("admin", reveal_system=True))
    for key in ("beta_mode", "no_such_key"):
        refusal = await refused(reveal(admin, key), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
        assert refusal.violations == {"key": f"{key!r} is no secret: GetSystemConfig answers it"}


async def test_a_secret_that_does_not_open_is_data_loss(service: RunningService) -> None:
    sealed = service.app.envelope.seal(JWT, Location("system_config", "value", "", "another_key"))
    await service.execute("UPDATE system_config SET value = ? WHERE key = 'jwt_secret'", sealed)
    refusal = await refused(reveal(service.client("gateway"), "jwt_secret"), Code.DATA_LOSS, "SECRET_UNREADABLE")
    assert_hidden(refusal)
    assert await service.last_record("outcome", "reason") == ("FAILED", "SECRET_UNREADABLE")
    (entry,) = await set_all(service, {"jwt_secret": JWT})
    assert (await reveal(service.client("gateway"), "jwt_secret")).revision == entry.revision


# ---- the JWT secret at each start


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "store"


async def jwt_secret_after_restart(data_dir: Path, stored: str | None) -> tuple[str, tuple[Any, ...]]:
    """The JWT secret after a start over a store that holds `stored`, and the newest audit record before it was read."""
    async with running_service(data_dir) as service:
        envelope = service.app.envelope
        if stored is None:
            await service.execute("DELETE FROM system_config WHERE key = 'jwt_secret'")
        else:
            sealed = envelope.seal(stored, Location("system_config", "value", "", "jwt_secret"))
            await service.execute("UPDATE system_config SET value = ? WHERE key = 'jwt_secret'", sealed)
    async with running_service(data_dir) as service:
        made = await service.rows(
            "SELECT principal, method, resources FROM audit_log ORDER BY chain_position DESC LIMIT 1"
        )
        return (await reveal(service.client("gateway"), "jwt_secret")).value, made[0] if made else ()


@pytest.mark.parametrize(
    "stored",
    [None, "", "your-jwt-secret-key-change-in-production-make-it-long-and-random"],
    ids=["none", "empty", "published"],
)
async def test_a_start_makes_a_jwt_secret_where_there_is_none_that_is_one(data_dir: Path, stored: str | None) -> None:
    secret, record = await jwt_secret_after_restart(data_dir, stored)
    assert len(secret) == 64 and secret != stored
    verb = "update" if stored is not None else "create"
    assert record == ("system", "start", f"{verb} configuration entry /jwt_secret")


async def test_a_start_keeps_a_jwt_secret_that_is_one(data_dir: Path) -> None:
    assert await jwt_secret_after_restart(data_dir, "short but adopted\n") == ("short but adopted\n", ())
