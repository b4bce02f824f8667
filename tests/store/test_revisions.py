"""One revision for the whole store: gapless, in the order of commits, and told by the change log."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select

from nofx_grpc.crypto.envelope import Location
from nofx_grpc.store import exchanges, revisions, traders, users
from nofx_grpc.store.engine import Connection, Database
from nofx_grpc.store.revisions import change_log
from nofx_grpc.store.tables import RESOURCES
from tests.store.support import Store, create_all, exchange, trader, user


def change(id: str, name: str) -> Callable[[Connection], Any]:
    return lambda c: exchanges.resource.update(c, ("ada", id), "", lambda current: replace(current, name=name))


async def query(database: Database, sql: str) -> list[tuple[Any, ...]]:
    answer = await database.scan(lambda connection: connection.exec_driver_sql(sql).fetchall())
    return [tuple(row) for row in answer.value]


async def assert_log_and_rows_agree(database: Database) -> None:
    """Every number is in the log once, and each row bears the last one that the log has for it."""
    state = (await database.read(revisions.read_state)).value
    logged = [row[0] for row in await query(database, "SELECT DISTINCT revision FROM change_log ORDER BY revision")]
    assert logged == list(range(state.compacted_revision + 1, state.revision + 1))
    for resource in RESOURCES:
        rows = select(func.max(resource.table.c.revision)).where(resource.table.c.revision > 1)
        changes = select(func.max(change_log.c.revision)).where(change_log.c.kind == resource.kind)
        found = await database.scan(lambda c, rows=rows, changes=changes: (c.scalar(rows), c.scalar(changes)))  # type: ignore[misc]  # bound here
        assert found.value[0] == found.value[1]


async def test_revisions_are_gapless_whatever_fails_between_them(database: Database) -> None:
    await database.write(create_all)

    def fail(connection: Connection) -> None:
        change("binance", "never")(connection)
        raise ValueError

    writes = [fail if i % 3 == 0 else change("binance", f"name {i}") for i in range(60)]
    answers = await asyncio.gather(*map(database.write, writes), return_exceptions=True)
    made = [answer.revision for answer in answers if not isinstance(answer, BaseException)]
    assert made == list(range(3, 43)), "in the order in which they were asked for"
    assert (await database.read(revisions.read_state)).revision == 42
    await assert_log_and_rows_agree(database)


async def test_two_writers_never_take_the_same_revision(database: Database, store: Store) -> None:
    await database.write(create_all)
    async with store.open(lock_timeout=5) as other:
        both = [(database, other)[i % 2].write(change("binance", f"name {i}")) for i in range(60)]
        assert sorted(answer.revision for answer in await asyncio.gather(*both)) == list(range(3, 63))
    await assert_log_and_rows_agree(database)


async def test_one_function_takes_one_revision_for_all_that_it_changes(database: Database) -> None:
    assert (await database.write(create_all)).revision == 2
    log = await query(database, "SELECT revision, ordinal, kind, user_id, id, operation FROM change_log")
    assert log == [
        (2, 1, "user", "ada", "ada", "create"),
        (2, 2, "model", "ada", "ada_qwen", "create"),
        (2, 3, "exchange", "ada", "binance", "create"),
        (2, 4, "trader", "ada", "t1", "create"),
    ]


async def test_what_changes_nothing_takes_no_revision(database: Database) -> None:
    await database.write(create_all)
    unchanged = await database.write(exchanges.resource.update, ("ada", "binance"), "", lambda current: current)
    assert unchanged.revision == unchanged.value.revision == 2
    assert len(await query(database, "SELECT 1 FROM change_log")) == 4


async def test_a_delete_is_logged_without_a_resource(database: Database) -> None:
    await database.write(create_all)
    await database.write(traders.resource.delete, ("ada", "t1"))
    assert await query(database, "SELECT kind, id, operation, resource FROM change_log WHERE revision = 3") == [
        ("trader", "t1", "delete", "")
    ]


async def test_the_log_tells_what_each_revision_made(database: Database) -> None:
    await database.write(create_all)
    for name in ("first", "second"):
        await database.write(change("binance", name))
    logged = await query(database, "SELECT resource FROM change_log WHERE kind = 'exchange' ORDER BY revision")
    records = [exchanges.resource.from_log(row[0]) for row in logged]
    assert [(record.name, record.revision) for record in records] == [("Binance", 2), ("first", 3), ("second", 4)]
    assert records[-1] == (await database.read(exchanges.resource.get, "ada", "binance")).value


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "written in clear by another program"])
async def test_no_secret_is_in_the_log(database: Database, store: Store, sealed: bool) -> None:
    secret = "K-plain-secret"
    where = Location("exchanges", "api_key", "ada", "binance")
    text = store.envelope.seal(secret, where, shown="https://host/path") if sealed else secret
    await database.write(users.resource.create, user(password_hash="$2a$10$hash", otp_secret=text))
    await database.write(exchanges.resource.create, exchange(api_key=text))
    await database.write(change("binance", "renamed"))
    logged = await query(database, "SELECT resource FROM change_log")
    for (resource,) in logged:
        assert secret not in resource and "$2a$" not in resource
        assert text.split(":")[-1] == "//host/path" or text not in resource
        if sealed:
            assert text.split(":")[3] not in resource, "the ciphertext stays out as well"


async def test_a_technical_rewrite_is_no_change(database: Database) -> None:
    await database.write(create_all)
    before = (await database.read(users.resource.get, "ada")).value
    sql = "UPDATE users SET password_hash = 'rehashed', rewrites = rewrites + 1 WHERE id = 'ada'"
    assert (await database.write(lambda connection: connection.exec_driver_sql(sql).rowcount)).revision == 2
    after = (await database.read(users.resource.get, "ada")).value
    assert (after.password_hash, after.revision, after.updated_at) == ("rehashed", 2, before.updated_at)
    assert len(await query(database, "SELECT 1 FROM change_log")) == 4


async def test_a_failed_function_leaves_the_log_as_it_was(database: Database) -> None:
    await database.write(create_all)
    with pytest.raises(Exception, match="already exists"):
        await database.write(lambda c: (change("binance", "new")(c), traders.resource.create(c, trader())))
    assert len(await query(database, "SELECT 1 FROM change_log")) == 4
    assert (await database.read(exchanges.resource.get, "ada", "binance")).value.name == "Binance"
