"""Users as a resource, over a real server: create, read, list, update, delete."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from nofx_grpc.v1 import exchanges_pb2, models_pb2, signal_sources_pb2, traders_pb2
from nofx_grpc.v1 import users_pb2 as pb
from tests.support.people import PASSWORD, authenticate, create, register
from tests.support.service import RunningService, refused

Code = grpc.StatusCode
TEMPLATE_TEXT = "the user 'default' owns the templates: it cannot be changed, deleted or given a password"


async def update(service: RunningService, *paths: str, id: str = "ann", **fields: Any) -> pb.User:
    options = {name: fields.pop(name) for name in ("allow_missing",) if name in fields}
    request = pb.UpdateUserRequest(user=pb.User(id=id, **fields), update_mask=FieldMask(paths=paths), **options)
    return await service.client().users.UpdateUser(request)


async def delete(service: RunningService, id: str = "ann", **fields: Any) -> pb.DeleteUserResponse:
    return await service.client().users.DeleteUser(pb.DeleteUserRequest(id=id, **fields))


async def get(service: RunningService, id: str = "ann") -> pb.User:
    return await service.client("viewer").users.GetUser(pb.GetUserRequest(id=id))


async def own_something(service: RunningService, user_id: str = "ann") -> None:
    """Give a user one of each: a model, an exchange, a signal source and a trader."""
    client = service.client()
    model = models_pb2.Model(name="M", provider="deepseek")
    await client.models.CreateModel(models_pb2.CreateModelRequest(user_id=user_id, model_id="m1", model=model))
    exchange = exchanges_pb2.Exchange(name="E", type="cex")
    await client.exchanges.CreateExchange(
        exchanges_pb2.CreateExchangeRequest(user_id=user_id, exchange_id="binance", exchange=exchange)
    )
    source = signal_sources_pb2.SignalSource(user_id=user_id, coin_pool_url="https://example.com/pool")
    await client.signal_sources.SetSignalSource(signal_sources_pb2.SetSignalSourceRequest(signal_source=source))
    trader = traders_pb2.Trader(name="T", ai_model_id="m1", exchange_id="binance", initial_balance=1000)
    await client.traders.CreateTrader(traders_pb2.CreateTraderRequest(user_id=user_id, trader_id="t1", trader=trader))


async def test_a_created_user_is_read_back_by_id_and_by_email(service: RunningService) -> None:
    created = await create(service)
    assert (created.id, created.email) == ("ann", "ann@example.com")
    assert not (created.password_set or created.can_log_in or created.otp_verified)
    viewer = service.client("viewer").users
    assert await viewer.GetUser(pb.GetUserRequest(id="ann")) == created
    assert await viewer.GetUser(pb.GetUserRequest(email="ann@example.com")) == created
    assert await viewer.GetUser(pb.GetUserRequest(email="ANN@example.com")) == created


async def test_without_an_id_the_service_makes_one(service: RunningService) -> None:
    first, second = await create(service, id=None), await create(service, "bob@example.com", id=None)
    assert len(first.id) == 36 and first.id != second.id


async def test_a_created_user_logs_in_once_there_is_a_password(service: RunningService) -> None:
    await create(service)
    await refused(authenticate(service, "ann@example.com", PASSWORD), Code.UNAUTHENTICATED, "LOGIN_REFUSED")
    await service.client().users.SetPassword(pb.SetPasswordRequest(user_id="ann", password=PASSWORD))
    assert (await get(service)).can_log_in
    assert (await authenticate(service, "ann@example.com", PASSWORD)).user.id == "ann"


@pytest.mark.parametrize(
    ("email", "id", "taken"),
    [
        ("bob@example.com", "ann", "a user with id 'ann' already exists"),
        ("Ann@Example.com", "bob", "a user with email 'Ann@Example.com' already exists"),
        ("default@localhost", "bob", "a user with email 'default@localhost' already exists"),
        ("bob@example.com", "default", "a user with id 'default' already exists"),
    ],
)
async def test_ids_and_emails_are_unique_whatever_their_case(
    service: RunningService, email: str, id: str, taken: str
) -> None:
    await create(service)
    async with service.nothing_written():
        refusal = await refused(create(service, email, id), Code.ALREADY_EXISTS, "ALREADY_EXISTS")
    assert refusal.text == taken


@pytest.mark.parametrize("email", ["", "ann", "ann@", "@example.com", "a nn@example.com", "a@b@c", "ann@example.com\n"])
async def test_what_is_no_email_is_refused(service: RunningService, email: str) -> None:
    async with service.nothing_written():
        refusal = await refused(create(service, email), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert "user.email" in refusal.violations


async def test_a_repeated_create_gets_the_first_answer(service: RunningService) -> None:
    first = await create(service, id=None, request_id="r-1")
    assert await create(service, id=None, request_id="r-1") == first
    await refused(
        create(service, "bob@example.com", id=None, request_id="r-1"), Code.INVALID_ARGUMENT, "REQUEST_ID_REUSED"
    )


@pytest.mark.parametrize("by", [{"id": "nobody"}, {"email": "no@example.com"}])
async def test_a_missing_user_is_not_found(service: RunningService, by: dict[str, str]) -> None:
    refusal = await refused(
        service.client("viewer").users.GetUser(pb.GetUserRequest(**by)), Code.NOT_FOUND, "NOT_FOUND"
    )
    assert refusal.text == "no user with {} {!r}".format(*next(iter(by.items())))


async def test_users_are_listed_in_pages(service: RunningService) -> None:
    for name in ("ann", "bob", "eve"):
        await create(service, f"{name}@example.com", name)
    client, token, seen = service.client("viewer").users, "", []
    while True:
        page = await client.ListUsers(pb.ListUsersRequest(page_size=2, page_token=token))
        seen += [user.id for user in page.users]
        if not (token := page.next_page_token):
            break
    assert seen == ["ann", "bob", "default", "eve"]


async def test_a_list_of_one_user(service: RunningService) -> None:
    await create(service)
    viewer = service.client("viewer").users
    one = await viewer.ListUsers(pb.ListUsersRequest(user_id="ann"))
    assert [user.id for user in one.users] == ["ann"] and not one.next_page_token
    assert not (await viewer.ListUsers(pb.ListUsersRequest(user_id="nobody"))).users


async def test_an_email_is_changed(service: RunningService) -> None:
    created = await create(service)
    changed = await update(service, email="Ann@new.example", etag=created.etag)
    assert changed.email == "Ann@new.example" and changed.revision > created.revision
    await refused(update(service, email="x@y", etag=created.etag), Code.ABORTED, "ETAG_MISMATCH")
    assert (await create(service, "ann@example.com", "bob")).id == "bob"
    refusal = await refused(update(service, email="ANN@EXAMPLE.com"), Code.ALREADY_EXISTS, "ALREADY_EXISTS")
    assert refusal.text == "a user with email 'ANN@EXAMPLE.com' already exists"


async def test_the_case_of_ones_own_email_may_change(service: RunningService) -> None:
    await create(service)
    assert (await update(service, "email", email="ANN@example.com")).email == "ANN@example.com"


async def test_an_update_that_changes_nothing_takes_no_revision(service: RunningService) -> None:
    created = await create(service)
    assert await update(service, email="ann@example.com") == created
    assert await update(service) == created


@pytest.mark.parametrize("path", ["*", "id", "password_set", "otp_secret"])
async def test_a_mask_names_settable_fields_only(service: RunningService, path: str) -> None:
    await create(service)
    refusal = await refused(update(service, path, email="x@y"), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert "update_mask" in refusal.violations


async def test_a_missing_user_is_updated_only_where_it_may_be_created(service: RunningService) -> None:
    await refused(update(service, email="ann@example.com"), Code.NOT_FOUND, "NOT_FOUND")
    assert (await update(service, email="ann@example.com", allow_missing=True)).id == "ann"
    await refused(
        update(service, id="bob", email="Ann@example.com", allow_missing=True), Code.ALREADY_EXISTS, "ALREADY_EXISTS"
    )
    refusal = await refused(
        update(service, id="", email="x@y", allow_missing=True), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT"
    )
    assert refusal.violations == {"user.id": "is required"}


async def test_a_deleted_user_is_gone_with_all_that_was_theirs(service: RunningService) -> None:
    await create(service)
    await own_something(service)
    await create(service, "bob@example.com", "bob")
    before = await service.revision()
    async with service.nothing_written():
        refusal = await refused(delete(service), Code.FAILED_PRECONDITION, "IN_USE")
    assert refusal.text == "the user 'ann' is in use by the traders: t1" and refusal.metadata["used_by"] == "t1"
    await delete(service, force=True)
    await refused(get(service), Code.NOT_FOUND, "NOT_FOUND")
    logged = await service.rows(
        "SELECT kind, user_id, id, operation FROM change_log WHERE revision > ? ORDER BY ordinal", before
    )
    assert logged == [
        ("trader", "ann", "t1", "delete"),
        ("model", "ann", "m1", "delete"),
        ("exchange", "ann", "binance", "delete"),
        ("signal source", "ann", "ann", "delete"),
        ("user", "ann", "ann", "delete"),
    ]
    for table in ("traders", "ai_models", "exchanges", "user_signal_sources"):
        assert await service.rows(f"SELECT count(*) FROM {table} WHERE user_id = 'ann'") == [(0,)]  # noqa: S608  # tables named here
    assert (await get(service, "bob")).id == "bob"


async def test_a_user_without_traders_is_deleted_with_what_else_is_theirs(service: RunningService) -> None:
    await create(service)
    await own_something(service)
    await service.client().traders.DeleteTrader(traders_pb2.DeleteTraderRequest(user_id="ann", id="t1"))
    await delete(service)
    assert await service.rows("SELECT count(*) FROM ai_models WHERE user_id = 'ann'") == [(0,)]


async def test_a_token_of_a_deleted_user_does_not_work_for_the_next_of_that_id(service: RunningService) -> None:
    await create(service)
    token = await service.make_token("viewer", "ann")
    await delete(service)
    await create(service)
    request = pb.GetUserRequest(id="ann")
    await refused(service.client(token=token).users.GetUser(request), Code.UNAUTHENTICATED, "UNAUTHENTICATED")


async def test_deleting_goes_by_etag_and_allow_missing(service: RunningService) -> None:
    created = await create(service)
    await update(service, email="new@example.com")
    await refused(delete(service, etag=created.etag), Code.ABORTED, "ETAG_MISMATCH")
    await delete(service)
    await refused(delete(service), Code.NOT_FOUND, "NOT_FOUND")
    await delete(service, allow_missing=True)


async def test_the_owner_of_the_templates_stays_as_it_is(service: RunningService) -> None:
    users = service.client().users
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: delete(service, "default", force=True),
        lambda: update(service, id="default", email="x@y"),
        lambda: users.SetPassword(pb.SetPasswordRequest(user_id="default", password=PASSWORD)),
        lambda: users.ResetOtp(pb.ResetOtpRequest(user_id="default")),
    ]
    async with service.nothing_written():
        for call in calls:
            refusal = await refused(call(), Code.FAILED_PRECONDITION, "FAILED_PRECONDITION")
            assert refusal.text == TEMPLATE_TEXT


async def test_the_log_of_changes_holds_no_hash_and_no_secret(service: RunningService) -> None:
    person = await register(service)
    (stored,) = await service.rows("SELECT password_hash, otp_secret FROM users WHERE id = ?", person.id)
    logged = "".join(row[0] for row in await service.rows("SELECT resource FROM change_log"))
    for secret in (*stored, person.secret, PASSWORD):
        assert secret and secret not in logged
    (resource,) = await service.rows("SELECT resource FROM change_log WHERE kind = 'user' AND id = ?", person.id)
    assert json.loads(resource[0])["password_hash"] == "*"
