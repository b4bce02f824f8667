"""The triggers keep `updated_at` right for whoever writes past the store, and leave the store's own writes alone."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from nofx_grpc.store import exchanges, users
from nofx_grpc.store.engine import Database
from nofx_grpc.store.tables import RESOURCES, TIMESTAMPED
from tests.store.support import Store, create_all, exchange, user
from tests.support.clock import START, FakeClock

# One change for each table that keeps the time of its last change.
CHANGES = {
    "users": "UPDATE users SET otp_verified = true WHERE id = 'ada'",
    "ai_models": "UPDATE ai_models SET name = 'new' WHERE id = 'ada_qwen'",
    "exchanges": "UPDATE exchanges SET name = 'new' WHERE id = 'binance' AND user_id = 'ada'",
    "user_signal_sources": "UPDATE user_signal_sources SET oi_top_url = 'new' WHERE user_id = 'ada'",
    "traders": "UPDATE traders SET name = 'new' WHERE id = 't1'",
    "system_config": "UPDATE system_config SET value = 'true' WHERE key = 'beta_mode'",
    "beta_codes": "UPDATE beta_codes SET used = true WHERE code = 'BETA'",
}
LONG_AGO = "2020-01-01 00:00:00"


@pytest.fixture
async def filled(database: Database, store: Store) -> Store:
    await database.write(create_all)
    await database.write(exchanges.resource.create, exchange("aster"))
    with store.outside() as connection:
        for sql in (
            "INSERT INTO user_signal_sources (user_id, revision) VALUES ('ada', 2)",
            "INSERT INTO beta_codes (code, revision) VALUES ('BETA', 2), ('OTHER', 2)",
            *(f"UPDATE {table.table} SET updated_at = '{LONG_AGO}'" for table in TIMESTAMPED),  # noqa: S608  # our names
        ):
            connection.exec_driver_sql(sql)
    return store


def times(store: Store, table: str) -> list[str]:
    """Every row's time of change, in text."""
    with store.outside() as connection:
        sql = f"SELECT CAST(updated_at AS TEXT) FROM {table} ORDER BY 1 DESC"  # noqa: S608  # names of this file
        return [str(row[0]) for row in connection.exec_driver_sql(sql)]


def test_every_table_with_a_time_of_change_has_a_trigger() -> None:
    assert {table.table for table in TIMESTAMPED} == set(CHANGES)
    assert set(CHANGES) == {resource.table.name for resource in RESOURCES if "updated_at" in resource.table.c}


@pytest.mark.parametrize("table", CHANGES)
async def test_a_foreign_writer_who_forgets_the_time_gets_it_for_the_row_alone(filled: Store, table: str) -> None:
    with filled.outside() as connection:
        connection.exec_driver_sql(CHANGES[table])
    changed, *others = times(filled, table)
    age = datetime.now(UTC) - datetime.fromisoformat(changed).replace(tzinfo=UTC)
    assert abs(age.total_seconds()) < 60
    assert all(other.startswith(LONG_AGO) for other in others)
    assert others or table in {"user_signal_sources", "traders", "system_config"}, "there are others to leave alone"


@pytest.mark.parametrize("table", CHANGES)
async def test_a_foreign_writer_who_sets_the_time_keeps_it(filled: Store, table: str) -> None:
    with filled.outside() as connection:
        connection.exec_driver_sql(CHANGES[table].replace(" SET ", " SET updated_at = '2021-02-03 04:05:06', "))
    assert times(filled, table)[0].startswith("2021-02-03 04:05:06")


@pytest.mark.parametrize("table", [table.table for table in TIMESTAMPED if table.counts_rewrites])
async def test_a_technical_rewrite_leaves_the_time(filled: Store, table: str) -> None:
    with filled.outside() as connection:
        connection.exec_driver_sql(CHANGES[table].replace(" SET ", " SET rewrites = rewrites + 1, "))
    assert times(filled, table)[0].startswith(LONG_AGO)


async def test_the_whole_key_is_matched(filled: Store, database: Database) -> None:
    """NOFX's trigger looked at the id alone, and touched the rows of every user who had the same exchange."""
    await database.write(users.resource.create, user("bob"))
    await database.write(exchanges.resource.create, exchange("binance", "bob"))
    bobs = (await database.read(exchanges.resource.get, "bob", "binance")).value
    with filled.outside() as connection:
        connection.exec_driver_sql(CHANGES["exchanges"])
    assert (await database.read(exchanges.resource.get, "bob", "binance")).value == bobs
    assert (await database.read(exchanges.resource.get, "ada", "binance")).value.updated_at.year > 2020


async def test_the_stores_own_writes_have_the_stores_own_time(
    filled: Store, database: Database, clock: FakeClock
) -> None:
    """Even where a change falls into the same moment as the one before it."""
    for _ in range(2):
        current = (await database.read(exchanges.resource.get, "ada", "binance")).value
        changed = replace(current, enabled=not current.enabled)
        written = (await database.write(exchanges.resource.put, changed)).value
        assert written.updated_at == START == clock()
        assert (await database.read(exchanges.resource.get, "ada", "binance")).value == written
