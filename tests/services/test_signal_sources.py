"""Signal sources over a real server."""

from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from nofx_grpc.services.signal_sources import credentials
from nofx_grpc.store import signal_sources
from nofx_grpc.v1 import signal_sources_pb2 as pb
from tests.support.clock import FakeClock
from tests.support.service import Client, Refusal, RunningService, refused

Code = grpc.StatusCode

POOL = "http://pool.example.com/api/ai500?auth=pool-plaintext-63b2"
OI = "http://user:oi-plaintext-08cd@oi.example.com/top"


@pytest.fixture(autouse=True)
async def users(service: RunningService) -> None:
    await service.add_users("alice", "bob")


async def put(client: Client, *paths: str, user_id: str = "alice", etag: str = "", **fields: Any) -> pb.SignalSource:
    source = pb.SignalSource(user_id=user_id, etag=etag, **fields)
    request = pb.SetSignalSourceRequest(signal_source=source, update_mask=FieldMask(paths=paths))
    return await client.signal_sources.SetSignalSource(request)


async def get(client: Client, user_id: str = "alice") -> pb.SignalSource:
    return await client.signal_sources.GetSignalSource(pb.GetSignalSourceRequest(user_id=user_id))


async def delete(client: Client, user_id: str = "alice", **fields: Any) -> pb.DeleteSignalSourceResponse:
    request = pb.DeleteSignalSourceRequest(user_id=user_id, **fields)
    return await client.signal_sources.DeleteSignalSource(request)


async def stored(service: RunningService) -> pb.SignalSourceCredentials:
    """The URLs as a trader's configuration holds them."""
    source = (await service.app.db.read(signal_sources.resource.get, "alice")).value
    return credentials(service.app.envelope, source)


async def refuse(service: RunningService, call: Any, code: grpc.StatusCode, reason: str) -> Refusal:
    """A refusal that leaves the store as it was and tells no secret."""
    async with service.nothing_written():
        refusal = await refused(call, code, reason)
    assert "plaintext" not in str(refusal)
    return refusal


async def test_what_is_set_is_read_back_without_credentials(service: RunningService) -> None:
    made = await put(service.client("gateway"), coin_pool_url=POOL, oi_top_url=OI)
    assert await get(service.client("viewer")) == made
    assert made.coin_pool_url_redacted == "http://pool.example.com/api/ai500"
    assert made.oi_top_url_redacted == "http://oi.example.com/top"
    assert made.coin_pool_url_set and len(made.coin_pool_url_fingerprint) == 8 and made.oi_top_url_fingerprint
    records = await service.rows("SELECT * FROM audit_log")
    assert "plaintext" not in f"{made} {await service.contents()} {records}"
    assert await stored(service) == pb.SignalSourceCredentials(coin_pool_url=POOL, oi_top_url=OI)


async def test_a_change_leaves_the_other_url(service: RunningService, clock: FakeClock) -> None:
    made = await put(service.client(), coin_pool_url=POOL, oi_top_url=OI)
    clock.advance(seconds=1)
    for changed in (
        await put(service.client(), "coin_pool_url", coin_pool_url="https://new.example.com"),
        await put(service.client(), coin_pool_url="https://newer.example.com/", oi_top_url=""),
    ):
        assert changed.etag != made.etag and changed.create_time == made.create_time
    assert await stored(service) == pb.SignalSourceCredentials(
        coin_pool_url="https://newer.example.com/", oi_top_url=OI
    )


async def test_a_masked_and_absent_url_is_cleared(service: RunningService) -> None:
    await put(service.client(), coin_pool_url=POOL, oi_top_url=OI)
    changed = await put(service.client(), "oi_top_url")
    assert not changed.oi_top_url_set and changed.coin_pool_url_set and changed.oi_top_url_redacted == ""


async def test_setting_nothing_makes_an_empty_one_and_then_changes_nothing(service: RunningService) -> None:
    made = await put(service.client())
    assert not made.coin_pool_url_set and made.revision == await service.revision()
    async with service.nothing_written():
        assert await put(service.client()) == made


async def test_deleting(service: RunningService) -> None:
    made = await put(service.client(), coin_pool_url=POOL)
    await put(service.client(), user_id="bob", coin_pool_url=POOL)
    await delete(service.client("gateway"), etag=made.etag)
    await refuse(service, get(service.client()), Code.NOT_FOUND, "NOT_FOUND")
    assert (await get(service.client(), "bob")).coin_pool_url_set
    async with service.nothing_written():
        await delete(service.client(), allow_missing=True)


async def test_what_is_missing_is_not_found(service: RunningService) -> None:
    for call in (get(service.client()), delete(service.client())):
        refusal = await refuse(service, call, Code.NOT_FOUND, "NOT_FOUND")
        assert refusal.text == "no signal source with id 'alice'"
    refusal = await refuse(service, put(service.client(), user_id="nobody"), Code.NOT_FOUND, "NOT_FOUND")
    assert refusal.text == "no user with id 'nobody'"


async def test_a_stale_etag_is_refused(service: RunningService) -> None:
    stale = (await put(service.client(), coin_pool_url=POOL)).etag
    current = (await put(service.client(), oi_top_url=OI)).etag
    for call in (put(service.client(), etag=stale, oi_top_url=POOL), delete(service.client(), etag=stale)):
        await refuse(service, call, Code.ABORTED, "ETAG_MISMATCH")
    await delete(service.client(), etag=current)


async def test_an_etag_for_what_is_missing_is_stale(service: RunningService) -> None:
    stale = (await put(service.client(), coin_pool_url=POOL)).etag
    await delete(service.client())
    await refuse(service, put(service.client(), etag=stale, oi_top_url=POOL), Code.ABORTED, "ETAG_MISMATCH")


@pytest.mark.parametrize("path", ["*", "nonsense", "coin_pool_url_set", "user_id"])
async def test_a_mask_names_fields_that_can_be_set(service: RunningService, path: str) -> None:
    call = put(service.client(), "oi_top_url", path, oi_top_url=OI)
    refusal = await refuse(service, call, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert set(refusal.violations) == {"update_mask"}


@pytest.mark.parametrize("url", ["ftp://plaintext", "https://?plaintext", "https://h/" + 2048 * "x", "http://h/\0"])
async def test_what_is_no_url_is_refused(service: RunningService, url: str) -> None:
    call = put(service.client(), coin_pool_url=url)
    refusal = await refuse(service, call, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert set(refusal.violations) == {"signal_source.coin_pool_url"}


@pytest.mark.parametrize("id", ["", "a\nb", "x" * 513])
async def test_a_malformed_user_id_is_refused(service: RunningService, id: str) -> None:
    client = service.client()
    for call, field in (
        (get(client, id), "user_id"),
        (delete(client, id), "user_id"),
        (put(client, user_id=id, oi_top_url=OI), "signal_source.user_id"),
    ):
        refusal = await refuse(service, call, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
        assert set(refusal.violations) == {field}


async def test_only_admin_changes_what_belongs_to_the_template_user(service: RunningService) -> None:
    await put(service.client("admin"), user_id="default", coin_pool_url=POOL)
    gateway = service.client("gateway")
    for call in (put(gateway, user_id="default", coin_pool_url=OI), delete(gateway, "default")):
        await refuse(service, call, Code.PERMISSION_DENIED, "PERMISSION_DENIED")
