"""Databases that other releases have left: older ones are migrated, and those of the next one are worked on."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from nofx_grpc.crypto.envelope import Location
from nofx_grpc.store import exchanges, revisions, traders
from nofx_grpc.store.backend import backend_for
from nofx_grpc.store.bootstrap import open_store
from nofx_grpc.store.schema import SchemaState, inspect_store, migrate, newest_version, state_of
from nofx_grpc.store.seed import OLDEST_SCHEMA
from tests.store.make_golden import GOLDEN, GOLDEN_API_KEY
from tests.store.support import FIRST_START, MASTER_KEY, Store, create_all, make_sqlite, trader
from tests.store.test_schema import dump, dump_schema
from tests.support.clock import FakeClock


def make_from(golden: Path, path: Path) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(golden.read_text())
    return path


def expand(store: Store) -> None:
    """What a later release may do to the schema while servers of this one are running: see CONTRIBUTING.md."""
    with store.outside() as connection:
        connection.exec_driver_sql("ALTER TABLE traders ADD COLUMN mood TEXT DEFAULT 'calm' NOT NULL")
        connection.exec_driver_sql("CREATE TABLE moods (id TEXT PRIMARY KEY)")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")


async def test_a_release_works_on_a_database_that_a_later_one_has_expanded(store: Store) -> None:
    async with store.open() as running:
        await running.write(create_all)
        expand(store)
        await running.write(traders.resource.create, trader("while it runs"))
    assert inspect_store(store.connect()) is SchemaState.NEWER
    before = dump(store)
    open_store(store.connect(), MASTER_KEY, FIRST_START, store.clock(), os.urandom)  # a start
    assert dump(store) == before
    async with store.open() as started:
        await started.write(traders.resource.create, trader("after a start"))
        found = await started.read(traders.resource.get, "ada", "while it runs")
    assert found.value.name == "Trader"
    with store.outside() as connection:
        assert set(connection.exec_driver_sql("SELECT mood FROM traders").scalars()) == {"calm"}


def test_a_new_store_and_one_that_was_migrated_name_the_same_oldest_schema(tmp_path: Path, clock: FakeClock) -> None:
    path = make_from(GOLDEN / "0001.sql", tmp_path / "nofx.db")
    migrate(backend_for(f"sqlite:///{path}"), lambda _: None)
    (tmp_path / "new").mkdir()
    make_sqlite(tmp_path / "new", clock)
    said = []
    for database in (path, tmp_path / "new" / "nofx.db"):
        with closing(sqlite3.connect(database)) as connection:
            said.append(connection.execute("SELECT oldest_schema FROM store_state").fetchone()[0])
    assert said == [OLDEST_SCHEMA, OLDEST_SCHEMA]


@pytest.mark.parametrize("golden", sorted(GOLDEN.glob("*.sql")), ids=lambda path: path.stem)
def test_a_store_of_each_schema_version_opens(golden: Path, tmp_path: Path, clock: FakeClock) -> None:
    """One is added with each migration: `tests/store/make_golden.py` writes it."""
    path = make_from(golden, tmp_path / "nofx.db")
    backend = backend_for(f"sqlite:///{path}")
    assert inspect_store(backend) in {SchemaState.OLD, SchemaState.CURRENT}
    keyring = open_store(backend, MASTER_KEY, FIRST_START, clock(), os.urandom).keyring
    store = Store(f"sqlite:///{path}", clock, keyring, lambda: backend)
    with store.outside() as connection:
        assert state_of(connection) is SchemaState.CURRENT
        found = exchanges.resource.get(connection, "ada", "binance")
        where = Location("exchanges", "api_key", "ada", "binance")
        assert store.envelope.open(found.api_key, where) == GOLDEN_API_KEY
        assert traders.resource.get(connection, "ada", "t1").initial_balance == 1.0
        assert revisions.read_state(connection).revision == 2
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"


def test_the_newest_schema_has_its_golden_copy(tmp_path: Path, clock: FakeClock) -> None:
    """On SQLite: a copy is a script that only SQLite can run.  Both engines run the same migrations."""
    make_sqlite(tmp_path, clock)
    golden = make_from(GOLDEN / f"{newest_version()}.sql", tmp_path / "golden.db")
    assert dump_schema(golden) == dump_schema(tmp_path / "nofx.db")
