"""What every resource does alike."""

import math
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import text

from nofx_grpc.crypto.envelope import Location, describe
from nofx_grpc.errors import AlreadyExists, EtagMismatch, InvalidArgument, NotFound
from nofx_grpc.store import exchanges, models, traders, users
from nofx_grpc.store.engine import Database
from nofx_grpc.store.resources import Resource, etag_of
from nofx_grpc.store.tables import RESOURCES
from tests.store.support import Store, create_all, draft, exchange, model, trader, user
from tests.support.clock import FakeClock

EACH = pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
TIME = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def public(resource: Resource[Any], record: Any) -> dict[str, Any]:
    """What a client may see of a record: headers of secrets, whether there is a hash, all the rest."""
    shown = {field.name: getattr(record, field.name) for field in fields(record)}
    shown.update((name, describe(shown[name]) or "") for name in resource.secrets)
    shown.update((name, bool(shown[name])) for name in resource.hidden)
    return shown


@EACH
@pytest.mark.parametrize("microsecond", [0, 123456])
@pytest.mark.parametrize("filled", [True, False], ids=["filled", "empty"])
def test_a_record_survives_the_log(resource: Resource[Any], store: Store, filled: bool, microsecond: int) -> None:
    at = TIME.replace(microsecond=microsecond)
    record = draft(
        resource.record, revision=7, **{name: at for name in ("created_at", "updated_at") if name in names(resource)}
    )
    if filled:
        texts = {field.name: f'ünïcode "{field.name}" \U0001f680' for field in fields(record) if field.type is str}
        seal = store.envelope.seal
        sealed = {name: seal("s", Location("t", name, "u", "r"), shown="https://h/p?q=:") for name in resource.secrets}
        times = {field.name: at for field in fields(record) if field.type == datetime | None}
        record = replace(record, **texts | sealed | dict.fromkeys(resource.hidden, "hash") | times)
    logged = resource.from_log(resource.to_log(record))
    assert public(resource, logged) == public(resource, record)
    assert type(logged) is type(record)


def names(resource: Resource[Any]) -> set[str]:
    return {field.name for field in fields(resource.record)}


@EACH
def test_every_field_is_a_column_and_keys_are_fields(resource: Resource[Any]) -> None:
    assert names(resource) <= set(resource.table.columns.keys())
    assert set(resource.key) <= names(resource)


async def test_pages_are_in_the_order_of_bytes(database: Database) -> None:
    ids = ["Z", "a", "B", "é", "_", "z", "ab", "\U0001f680", "￮"]
    for id in ids:
        await database.write(users.resource.create, user(id))
    expected = sorted([*ids, "default"], key=str.encode)
    seen: list[str] = []
    while page := (await database.read(users.resource.page, after=tuple(seen[-1:]), limit=3)).value:
        seen += [row.id for row in page]
    assert seen == expected


async def test_a_page_of_one_user_has_nobody_elses(database: Database) -> None:
    await database.write(create_all)
    await database.write(users.resource.create, user("bob"))
    await database.write(exchanges.resource.create, exchange("aster", "bob"))
    assert [row.id for row in (await database.read(exchanges.resource.page, user_id="ada", limit=9)).value] == [
        "binance"
    ]
    everyone = (await database.read(exchanges.resource.page, after=("ada", "binance"), limit=9)).value
    assert [(row.user_id, row.id) for row in everyone[:2]] == [("bob", "aster"), ("default", "aster")]


async def test_a_twin_is_refused_whoever_has_it(database: Database) -> None:
    await database.write(create_all)
    await database.write(users.resource.create, user("bob"))
    for twin in (model(), model(user_id="bob")):  # ids of models are taken once for all users, as in NOFX
        with pytest.raises(AlreadyExists):
            await database.write(models.resource.create, twin)
    await database.write(exchanges.resource.create, exchange(user_id="bob"))  # those of exchanges are not


async def test_what_belongs_to_nobody_is_refused(database: Database) -> None:
    with pytest.raises(NotFound, match="no user with id 'nobody'"):
        await database.write(exchanges.resource.create, exchange(user_id="nobody"))


@pytest.mark.parametrize(
    "fields", [{"name": "a\0b"}, *({"initial_balance": x} for x in (math.nan, math.inf, -math.inf))]
)
async def test_what_one_engine_would_refuse_is_refused_on_all(database: Database, fields: dict[str, Any]) -> None:
    await database.write(create_all)
    with pytest.raises(InvalidArgument, match=next(iter(fields))):
        await database.write(traders.resource.create, trader("t2", **fields))
    with pytest.raises(InvalidArgument, match=next(iter(fields))):
        await database.write(traders.resource.update, ("ada", "t1"), "", lambda current: replace(current, **fields))
    assert (await database.read(traders.resource.get, "ada", "t1")).value.revision == 2


async def test_every_change_makes_another_etag_and_an_old_one_is_refused(
    database: Database, store: Store, clock: FakeClock
) -> None:
    await database.write(create_all)
    first = (await database.read(users.resource.get, "ada")).value
    second = (await database.write(users.resource.put, replace(first, otp_verified=True))).value
    with store.outside() as connection:
        connection.exec_driver_sql("UPDATE users SET otp_verified = false WHERE id = 'ada'")
    third = (await database.read(users.resource.get, "ada")).value
    assert len({etag_of(first), etag_of(second), etag_of(third)}) == 3
    for stale in (first, second):
        with pytest.raises(EtagMismatch):
            await database.write(users.resource.delete, ("ada",), etag_of(stale))
        with pytest.raises(EtagMismatch):
            await database.write(users.resource.update, ("ada",), etag_of(stale), lambda current: current)
    await database.write(users.resource.update, ("ada",), etag_of(third), lambda current: current)


async def test_a_record_that_is_gone_is_not_written(database: Database) -> None:
    with pytest.raises(NotFound):
        await database.write(users.resource.put, user("nobody"))
    assert (await database.write(lambda _: None)).revision == 1


async def test_times_keep_their_moment_whatever_their_zone(database: Database, clock: FakeClock) -> None:
    clock.now = datetime(2026, 3, 4, 5, 6, 7, 8, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    created = (await database.write(users.resource.create, user())).value
    read = (await database.read(users.resource.get, "ada")).value
    assert read.created_at == created.created_at and read.created_at.tzinfo is UTC


async def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    naive = datetime(2026, 3, 4)  # noqa: DTZ001  # the point of this test
    with pytest.raises(Exception, match="without a zone"):
        await database.write(users.resource.create, user(registration_expires_at=naive))


@pytest.mark.parametrize("written", ["2026-03-04 05:06:07", "2026-03-04 07:06:07+02:00", "2026-03-04T05:06:07Z"])
async def test_a_foreign_writers_time_is_read_as_it_was_meant(database: Database, store: Store, written: str) -> None:
    await database.write(users.resource.create, user())
    with store.outside() as connection:
        connection.execute(text("UPDATE users SET updated_at = :written WHERE id = 'ada'"), {"written": written})
    assert (await database.read(users.resource.get, "ada")).value.updated_at == TIME
