"""What every resource with the usual rpcs refuses: code, reason, text, nothing written, nothing echoed."""

from typing import Any

import grpc
import pytest

from nofx_grpc.errors import StoreFull
from nofx_grpc.store import audit
from tests.support.nouns import NOUNS, SECRET, Noun, refuse
from tests.support.service import RunningService

Code = grpc.StatusCode

pytestmark = pytest.mark.parametrize("noun", NOUNS, ids=str)


@pytest.fixture(autouse=True)
async def users(service: RunningService) -> None:
    await service.add_users("alice", "bob")


@pytest.mark.parametrize("verb", ["get", "update", "delete", "credentials"])
async def test_a_missing_one_is_not_found(service: RunningService, noun: Noun, verb: str) -> None:
    fields = {"name": "New", "api_key": SECRET} if verb == "update" else {}
    client = service.client("engine" if verb == "credentials" else "admin")
    refusal = await refuse(service, getattr(noun, verb)(client, **fields), Code.NOT_FOUND, "NOT_FOUND")
    assert refusal.text == f"no {noun.name} with id 'one'"
    assert refusal.metadata == {"kind": noun.name, "id": "one"}


@pytest.mark.parametrize("verb", ["get", "update", "delete", "credentials"])
async def test_another_users_is_not_found(service: RunningService, noun: Noun, verb: str) -> None:
    await noun.create(service.client())
    fields = {"name": "New"} if verb == "update" else {}
    client = service.client("engine" if verb == "credentials" else "admin")
    await refuse(service, getattr(noun, verb)(client, user_id="bob", **fields), Code.NOT_FOUND, "NOT_FOUND")


async def test_a_missing_user_is_not_found(service: RunningService, noun: Noun) -> None:
    for call in (
        noun.create(service.client(), user_id="nobody"),
        noun.update(service.client(), user_id="nobody", allow_missing=True, **noun.fields),
    ):
        refusal = await refuse(service, call, Code.NOT_FOUND, "NOT_FOUND")
        assert refusal.text == "no user with id 'nobody'"


async def test_a_duplicate_is_refused(service: RunningService, noun: Noun) -> None:
    await noun.create(service.client())
    refusal = await refuse(service, noun.create(service.client(), name="B"), Code.ALREADY_EXISTS, "ALREADY_EXISTS")
    assert refusal.text == f"a {noun.name} with id 'one' already exists"


@pytest.mark.parametrize("verb", ["update", "delete"])
async def test_a_stale_etag_is_refused(service: RunningService, noun: Noun, verb: str) -> None:
    stale = (await noun.create(service.client())).etag
    current = await noun.update(service.client(), "name", name="New")
    fields = {"name": "Newer"} if verb == "update" else {}
    call = getattr(noun, verb)(service.client(), etag=stale, **fields)
    refusal = await refuse(service, call, Code.ABORTED, "ETAG_MISMATCH")
    assert refusal.text == f"the {noun.name} 'one' has changed since it was read: read it again and repeat the change"
    await getattr(noun, verb)(service.client(), etag=current.etag, **fields)


@pytest.mark.parametrize(
    ("id", "text"),
    [
        ("", "one of"),
        ("a\nb", "must not contain control characters"),
        ("a\0b", "must not contain control characters"),
        ("x" * 513, "must be at most 512 bytes"),
        ("€" * 171, "must be at most 512 bytes"),
    ],
    ids=["empty", "newline", "nul", "long", "long in bytes"],
)
async def test_a_malformed_id_is_refused(service: RunningService, noun: Noun, id: str, text: str) -> None:
    admin, engine = service.client(), service.client("engine")
    calls = {
        "id": [noun.get(admin, id=id), noun.delete(admin, id=id), noun.credentials(engine, id=id)],
        "user_id": [noun.get(admin, user_id=id), noun.create(admin, user_id=id)],
        f"{noun.name}_id": [noun.create(admin, id=id)] if id or noun.name == "exchange" else [],
        f"{noun.name}.id": [noun.update(admin, id=id, name="New", allow_missing=True)],
    }
    for field, of_field in calls.items():
        for call in of_field:
            refusal = await refuse(service, call, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
            assert set(refusal.violations) == {field}
            assert id == "" or text in refusal.violations[field]


async def test_an_update_must_name_a_user(service: RunningService, noun: Noun) -> None:
    call = noun.update(service.client(), user_id="", name="New", allow_missing=True)
    refusal = await refuse(service, call, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert refusal.violations == {f"{noun.name}.user_id": "is required"}


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("*", "'*' is not accepted"),
        ("nonsense", "'nonsense' is not a field that can be set: expected some of name, "),
        ("revision", "'revision' is not a field that can be set"),
        ("api_key_set", "'api_key_set' is not a field that can be set"),
        ("etag", "'etag' is not a field that can be set"),
        ("id", "'id' is not a field that can be set"),
        ("user_id", "'user_id' is not a field that can be set"),
        ("name.x", "'name.x' is not a field that can be set"),
    ],
)
async def test_a_mask_names_fields_that_can_be_set(
    service: RunningService, noun: Noun, path: str, complaint: str
) -> None:
    await noun.create(service.client())
    call = noun.update(service.client(), "name", path, name="New", api_key=SECRET)
    refusal = await refuse(service, call, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert refusal.violations["update_mask"].startswith(complaint)


@pytest.mark.parametrize("value", ["", "x" * 257, "a\tb"])
async def test_a_value_out_of_range_is_refused(service: RunningService, noun: Noun, value: str) -> None:
    await noun.create(service.client())
    for call in (
        noun.create(service.client(), id="two", name=value),
        noun.update(service.client(), "name", name=value, api_key=SECRET),
    ):
        refusal = await refuse(service, call, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
        assert set(refusal.violations) == {f"{noun.name}.name"}


async def test_a_secret_out_of_range_is_not_repeated(service: RunningService, noun: Noun) -> None:
    call = noun.create(service.client(), api_key=f"{SECRET}\0")
    refusal = await refuse(service, call, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert refusal.violations == {f"{noun.name}.api_key": "must not contain a NUL character"}


async def test_what_a_new_one_needs_is_named(service: RunningService, noun: Noun) -> None:
    needed = [name for name in noun.fields if name in {"name", "type", "provider"}]
    for field in needed:
        for verb in (noun.create, noun.update):
            extra = {"allow_missing": True} if verb == noun.update else {}
            fields = {name: value for name, value in noun.fields.items() if name != field}
            absent = noun.resource(**fields)
            chosen: dict[str, Any] = {noun.name: absent, "user_id": "alice", f"{noun.name}_id": "one"}
            if extra:
                absent.user_id, absent.id = "alice", "one"
                chosen = {noun.name: absent, **extra}
            call = noun.call(service.client(), verb.__name__.title(), noun.request(verb.__name__.title(), **chosen))
            refusal = await refuse(service, call, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
            assert refusal.violations == {f"{noun.name}.{field}": "is required for a new resource"}


async def test_a_needed_field_cannot_be_cleared(service: RunningService, noun: Noun) -> None:
    await noun.create(service.client())
    call = noun.update(service.client(), "name")
    refusal = await refuse(service, call, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert refusal.violations[f"{noun.name}.name"].startswith("cannot be cleared")


async def test_what_traders_use_cannot_be_deleted(service: RunningService, noun: Noun) -> None:
    for each in NOUNS:
        await each.create(service.client())
    await service.execute(
        "INSERT INTO traders (id, user_id, name, ai_model_id, exchange_id, initial_balance, revision)"
        " VALUES ('t-1', 'alice', 'T', 'one', 'one', 1, 1)"
    )
    for allow_missing in (False, True):
        call = noun.delete(service.client(), allow_missing=allow_missing)
        refusal = await refuse(service, call, Code.FAILED_PRECONDITION, "IN_USE")
        assert refusal.text == f"the {noun.name} 'one' is in use by the traders: t-1"
        assert refusal.metadata["used_by"] == "t-1"


async def test_a_secret_moved_to_another_row_is_unreadable_and_kept_back(service: RunningService, noun: Noun) -> None:
    for id in ("one", "two"):
        await noun.create(service.client(), id=id)
    ((sealed,),) = await service.rows(f"SELECT api_key FROM {noun.table} WHERE id = 'two'")  # noqa: S608  # a name of ours
    await service.execute(f"UPDATE {noun.table} SET api_key = ? WHERE id = 'one'", sealed)  # noqa: S608  # a name of ours
    refusal = await refuse(service, noun.credentials(service.client("engine")), Code.DATA_LOSS, "SECRET_UNREADABLE")
    assert refusal.metadata == {"field": "api_key"}
    assert await service.last_record("outcome", "reason") == ("FAILED", "SECRET_UNREADABLE")


async def test_without_a_record_nothing_is_revealed(
    service: RunningService, noun: Noun, monkeypatch: pytest.MonkeyPatch
) -> None:
    await noun.create(service.client())

    def full(*_: object) -> None:
        raise StoreFull

    monkeypatch.setattr(audit, "append", full)
    refusal = await refuse(service, noun.credentials(service.client("engine")), Code.UNAVAILABLE, "AUDIT_UNAVAILABLE")
    assert "nothing was revealed or changed" in refusal.text
    await refuse(service, noun.update(service.client(), "name", name="New"), Code.RESOURCE_EXHAUSTED, "STORE_FULL")


@pytest.mark.parametrize("role", ["admin", "gateway"])
async def test_only_admin_changes_templates(service: RunningService, noun: Noun, role: str) -> None:
    client = service.client(role)
    await noun.create(service.client(), id="template", user_id="default")
    for call in (
        noun.update(client, "name", id="template", user_id="default", name="New"),
        noun.delete(client, id="template", user_id="default"),
        noun.create(client, id="other", user_id="default"),
    ):
        if role == "admin":
            await call
        else:
            await refuse(service, call, Code.PERMISSION_DENIED, "PERMISSION_DENIED")
            user_id, resource = await service.last_record("user_id", "resources")
            assert user_id == "default" and resource in {"template", "other"}
