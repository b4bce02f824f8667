"""What every resource with the usual rpcs does: create, get, update, delete, request ids; over a real server."""

import grpc
import pytest

from tests.support.clock import FakeClock
from tests.support.nouns import NOUNS, SECRET, Noun, assert_hidden, refuse
from tests.support.service import RunningService, refused

Code = grpc.StatusCode

pytestmark = pytest.mark.parametrize("noun", NOUNS, ids=str)


@pytest.fixture(autouse=True)
async def users(service: RunningService) -> None:
    await service.add_users("alice", "bob")


# ---- good paths


async def test_what_is_created_is_read_back_and_listed_without_its_secrets(service: RunningService, noun: Noun) -> None:
    created = await noun.create(service.client())
    assert (created.user_id, created.id, created.name) == ("alice", "one", "Mine")
    assert created.api_key_set and len(created.api_key_fingerprint) == 8 and not created.HasField("api_key")
    viewer = service.client("viewer")
    listed = await noun.list(viewer, user_id="alice")
    assert await noun.get(viewer) == created and noun.listed(listed) == (created,)
    for answer in (created, listed):
        assert_hidden(answer)


async def test_a_revision_and_an_etag_for_each_change(service: RunningService, noun: Noun, clock: FakeClock) -> None:
    created = await noun.create(service.client())
    assert created.revision == await service.revision()
    clock.advance(seconds=1)
    updated = await noun.update(service.client("gateway"), "name", name="New")
    assert (updated.name, updated.revision) == ("New", created.revision + 1)
    assert updated.etag != created.etag and updated.create_time == created.create_time
    assert updated.update_time.ToDatetime(clock.now.tzinfo) == clock.now
    assert updated.api_key_fingerprint == created.api_key_fingerprint
    assert_hidden(updated)


async def test_an_update_to_what_is_there_changes_nothing(service: RunningService, noun: Noun) -> None:
    created = await noun.create(service.client())
    async with service.nothing_written():
        assert await noun.update(service.client(), "name", "enabled", name="Mine", enabled=False) == created


async def test_an_update_without_a_mask_changes_what_is_present(service: RunningService, noun: Noun) -> None:
    await noun.create(service.client(), enabled=True)
    updated = await noun.update(service.client(), name="New", api_key="")
    assert (updated.name, updated.enabled, updated.api_key_set) == ("New", True, True)


async def test_a_masked_and_absent_field_takes_its_default(service: RunningService, noun: Noun) -> None:
    await noun.create(service.client(), enabled=True)
    updated = await noun.update(service.client(), "enabled", "api_key")
    assert (updated.enabled, updated.api_key_set, updated.api_key_fingerprint) == (False, False, "")


async def test_allow_missing_creates(service: RunningService, noun: Noun) -> None:
    updated = await noun.update(service.client(), allow_missing=True, **noun.fields)
    assert updated == await noun.get(service.client()) and updated.api_key_set


async def test_a_deleted_one_is_gone_with_its_secrets(service: RunningService, noun: Noun) -> None:
    created = await noun.create(service.client())
    await noun.delete(service.client("gateway"), etag=created.etag)
    await refused(noun.get(service.client()), Code.NOT_FOUND, "NOT_FOUND")
    assert not [row for row in (await service.contents())[noun.table] if "alice" in row]
    logged = await service.rows("SELECT operation, resource FROM change_log ORDER BY revision DESC LIMIT 1")
    assert logged == [("delete", "")]


async def test_deleting_what_is_missing_may_be_allowed(service: RunningService, noun: Noun) -> None:
    async with service.nothing_written():
        await noun.delete(service.client(), allow_missing=True)


async def test_credentials_are_revealed_to_engines_on_the_record(service: RunningService, noun: Noun) -> None:
    await noun.create(service.client())
    assert (await noun.credentials(service.client("engine"))).api_key == SECRET
    record = await service.last_record("principal", "method", "user_id", "resources", "outcome")
    method = f"/nofx_grpc.v1.{noun.plural.title()}/{noun.rpc('Access')}"
    assert record == ("token:bootstrap-engine", method, "alice", "one", "OK")


async def test_credentials_tell_which_revision_they_belong_to(service: RunningService, noun: Noun) -> None:
    created = await noun.create(service.client())
    await noun.create(service.client(), id="two")
    request = noun.request("Access", user_id="alice", id="one")
    assert (await noun.call(service.client("engine"), "Access", request)).revision == created.revision


async def test_an_admin_reveals_only_if_its_token_says_so(service: RunningService, noun: Noun) -> None:
    await noun.create(service.client())
    await refused(noun.credentials(service.client("admin")), Code.PERMISSION_DENIED, "PERMISSION_DENIED")
    token = await service.make_token("admin", reveal=True)
    assert (await noun.credentials(service.client(token=token))).api_key == SECRET


async def test_a_write_is_on_record_without_secrets(service: RunningService, noun: Noun) -> None:
    created = await noun.create(service.client("admin"))
    record = await service.last_record("principal", "role", "user_id", "resources", "outcome", "revision")
    summary = f"create {noun.name} alice/one"
    assert record == ("token:bootstrap-admin", "admin", "alice", summary, "OK", created.revision)
    assert SECRET not in str(await service.rows("SELECT * FROM audit_log"))


async def test_secrets_are_sealed_in_every_table(service: RunningService, noun: Noun) -> None:
    await noun.create(service.client(), request_id="r-1")
    assert SECRET not in str(await service.contents())


# ---- request ids


async def test_a_repeated_request_gets_the_first_answer(service: RunningService, noun: Noun, clock: FakeClock) -> None:
    first = await noun.create(service.client(), request_id="r-1")
    await noun.update(service.client(), "name", name="Changed since")
    clock.advance(hours=1)
    async with service.nothing_written():
        assert await noun.create(service.client(), request_id="r-1") == first
    assert (await noun.get(service.client())).name == "Changed since"


async def test_a_request_id_belongs_to_one_request(service: RunningService, noun: Noun) -> None:
    await noun.create(service.client(), request_id="r-1")
    for fields in ({"id": "two"}, {"name": "Other"}, {"api_key": f"{SECRET}2"}):
        call = noun.create(service.client(), request_id="r-1", **fields)
        refusal = await refuse(service, call, Code.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
        assert set(refusal.violations) == {"request_id"}


async def test_a_request_id_belongs_to_one_principal(service: RunningService, noun: Noun) -> None:
    await noun.create(service.client(), request_id="r-1")
    other = service.client(token=await service.make_token("admin"))
    await refused(noun.create(other, request_id="r-1"), Code.ALREADY_EXISTS, "ALREADY_EXISTS")
    assert (await noun.create(other, id="two", request_id="r-1")).id == "two"


async def test_a_refused_request_leaves_its_id_unused(service: RunningService, noun: Noun) -> None:
    await refused(noun.create(service.client(), user_id="carol", request_id="r-1"), Code.NOT_FOUND, "NOT_FOUND")
    await service.add_users("carol")
    assert (await noun.create(service.client(), user_id="carol", request_id="r-1")).user_id == "carol"


async def test_a_kept_answer_is_sealed(service: RunningService, noun: Noun) -> None:
    await noun.create(service.client(), name="Conspicuous", request_id="r-1")
    ((answer,),) = await service.rows("SELECT answer FROM request_ids")
    assert len(answer) > 100 and b"Conspicuous" not in answer and b"alice" not in answer
