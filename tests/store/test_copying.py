"""A store is copied whole to either engine, goes on where it was cut off, and never stops half done in silence."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from nofx_grpc.crypto.envelope import Location
from nofx_grpc.errors import CopyError, SchemaError
from nofx_grpc.store import audit, exchanges, models, request_ids, traders, users
from nofx_grpc.store.audit import AuditRecord
from nofx_grpc.store.backend import Backend, backend_for
from nofx_grpc.store.bootstrap import unlock
from nofx_grpc.store.bulk import insert_rows
from nofx_grpc.store.moving import copy
from nofx_grpc.store.moving.copy import copy_store
from nofx_grpc.store.moving.rows import BATCH, differences
from nofx_grpc.store.schema import SchemaState, inspect_store, migrate
from nofx_grpc.store.tables import CONTENT
from tests.store.support import (
    MASTER_KEY,
    Store,
    empty_postgresql,
    exchange,
    make_sqlite,
    model,
    trader,
    user,
)
from tests.support.clock import FakeClock

RECORD = AuditRecord("p", "admin", "m", "peer", "ada", "r", audit.OK)


def ignore(step: str, done: int, total: int) -> None:
    """For a test that does not look at the progress."""


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """An empty database."""
    if request.param == "sqlite":
        yield backend_for(f"sqlite:///{tmp_path / 'copy.db'}", lock_timeout=0.3)
        return
    with empty_postgresql() as url:
        yield backend_for(url, lock_timeout=0.3)


def fill(connection: Connection, store: Store, traders_wanted: int = 3) -> None:
    """Something in every kind of column: sealed, binary, times with and without fractions, odd texts and numbers."""
    users.resource.create(connection, user())
    models.resource.create(connection, model())
    sealed = store.envelope.seal("secret", Location("exchanges", "api_key", "ada", "binance"))
    exchanges.resource.create(connection, exchange(api_key=sealed, name="Bïnance\n\t'\"\\ 币安 🚀"))
    for number in range(traders_wanted):
        balance = (0.1 + 0.2, 5e-324, -1.7976931348623157e308)[number % 3]
        traders.resource.create(connection, trader(f"t/{number} x", initial_balance=balance))
    request_ids.remember(connection, "p", "r", method="m", answer=bytes(range(256)))
    audit.append(connection, RECORD)


@pytest.fixture
async def filled(store: Store) -> Store:
    return await fill_store(store)


async def fill_store(store: Store, traders_wanted: int = 3) -> Store:
    async with store.open() as database:
        await database.write(fill, store, traders_wanted)
    return store


def contents(backend: Backend) -> dict[str, list[Any]]:
    connection = backend.open_reader()
    try:
        return {t.name: [tuple(r) for r in connection.execute(select(t).order_by(*t.primary_key))] for t in CONTENT}
    finally:
        connection.close()


def test_everything_is_copied_and_opens(filled: Store, target: Backend) -> None:
    steps: list[tuple[str, int, int]] = []
    copied = copy_store(filled.connect(), target, lambda *step: steps.append(step))
    before, after = contents(filled.connect()), contents(target)
    assert after == before
    assert {name: table.rows for name, table in copied.tables.items()} == {name: len(r) for name, r in before.items()}
    assert inspect_store(target) is SchemaState.CURRENT
    assert unlock(target, MASTER_KEY).keyring == filled.keyring
    total = sum(map(len, before.values()))
    assert steps == [("copying", total, total), ("comparing", total, total)]
    assert (copied.revision, copied.resumed, copied.left_out) == (before["store_state"][0][1], False, [])


async def test_a_copy_is_a_store_that_goes_on(filled: Store, target: Backend) -> None:
    copy_store(filled.connect(), target, ignore)
    there = dataclasses.replace(filled, connect=lambda: target)
    async with there.open() as database:
        created = await database.write(traders.resource.create, trader("new"))
        await database.append(audit.append, RECORD)  # numbered after those that were copied
    assert created.revision == contents(filled.connect())["store_state"][0][1] + 1


def test_the_triggers_are_there_afterwards(filled: Store, target: Backend) -> None:
    copy_store(filled.connect(), target, ignore)
    before = contents(target)["traders"]
    connection = target.open_writer()
    connection.exec_driver_sql("UPDATE traders SET name = 'by hand'")
    connection.close()
    after = contents(target)["traders"]
    position = list(traders.resource.table.columns.keys()).index("updated_at")
    assert [row[position] for row in after] != [row[position] for row in before]


def test_a_copy_that_was_cut_off_goes_on(filled: Store, target: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    class CutOff(Exception):
        pass

    def cut_off(*arguments: Any) -> Any:
        raise CutOff

    with monkeypatch.context() as patch:
        patch.setattr(copy, "_compare", cut_off)
        with pytest.raises(CutOff):
            copy_store(filled.connect(), target, ignore)
    with pytest.raises(SchemaError, match="a copy that is not finished"):
        inspect_store(target)
    # What changes without a revision has changed meanwhile, on both sides.
    with filled.outside() as connection:
        connection.exec_driver_sql("UPDATE users SET password_hash = 'new', rewrites = rewrites + 1")
        connection.exec_driver_sql("DELETE FROM request_ids")
    inserted: list[str] = []

    def insert(connection: Connection, table: Any, rows: Any) -> None:
        inserted.append(table.name)
        insert_rows(connection, table, rows)

    monkeypatch.setattr(f"{copy.__name__}.insert_rows", insert)
    assert copy_store(filled.connect(), target, ignore).resumed
    assert inserted == []  # what was there was not copied again
    assert contents(target) == contents(filled.connect())


async def test_a_copy_whose_source_has_moved_on_begins_anew(
    filled: Store, target: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(copy, "_compare", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            copy_store(filled.connect(), target, ignore)
    async with filled.open() as database:
        await database.write(traders.resource.delete, ("ada", "t/0 x"))
    assert not copy_store(filled.connect(), target, ignore).resumed
    assert contents(target) == contents(filled.connect())


def test_a_source_that_is_written_to_meanwhile_is_noticed(
    filled: Store, target: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = copy._compare

    def write_and_compare(*arguments: Any) -> Any:
        with filled.outside() as connection:
            connection.exec_driver_sql("UPDATE store_state SET revision = revision + 1")
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(copy, "_compare", write_and_compare)
        with pytest.raises(CopyError, match="was written to while it was copied: stop its servers"):
            copy_store(filled.connect(), target, ignore)
    with pytest.raises(SchemaError, match="a copy that is not finished"):
        inspect_store(target)


@pytest.mark.parametrize("engine", ["sqlite"])
def test_a_copy_that_another_run_has_taken_over_is_not_called_done(
    filled: Store, target: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = copy._compare

    def compare_while_another_begins(*arguments: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(copy, "_compare", lambda *_: 1 / 0)  # which is as far as the other one comes
            with pytest.raises(ZeroDivisionError):
                copy_store(filled.connect(), target, ignore)
        return real(*arguments)

    monkeypatch.setattr(copy, "_compare", compare_while_another_begins)
    with pytest.raises(CopyError, match="another copy to the same target was begun meanwhile"):
        copy_store(filled.connect(), target, ignore)
    with pytest.raises(SchemaError, match="a copy that is not finished"):
        inspect_store(target)


def test_a_copy_that_differs_is_not_called_done(
    filled: Store, target: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = copy._remove_rows

    def damage(table: Any, of: Any, present: Any, to: Connection) -> None:
        real(table, of, present, to)
        if table.name == "traders":
            to.exec_driver_sql("UPDATE traders SET initial_balance = 7 WHERE id = 't/1 x'")

    monkeypatch.setattr(copy, "_remove_rows", damage)
    with pytest.raises(CopyError, match="the row t/1 x of traders differs"):
        copy_store(filled.connect(), target, ignore)
    with pytest.raises(SchemaError, match="a copy that is not finished"):
        inspect_store(target)


def test_a_target_that_holds_something_is_refused(filled: Store, target: Backend) -> None:
    connection = target.open_writer()
    connection.exec_driver_sql("CREATE TABLE something (id TEXT)")
    connection.close()
    with pytest.raises(CopyError, match="is not empty"):
        copy_store(filled.connect(), target, ignore)


def test_a_target_that_is_a_store_is_refused(filled: Store, target: Backend) -> None:
    migrate(target, lambda connection: None)
    before = contents(target)
    with pytest.raises(CopyError, match="is not empty"):
        copy_store(filled.connect(), target, ignore)
    assert contents(target) == before


def test_a_copy_onto_itself_is_refused(filled: Store) -> None:
    with pytest.raises(CopyError, match="is not empty"):
        copy_store(filled.connect(), filled.connect(), ignore)


def test_a_target_that_another_release_began_is_refused(
    filled: Store, target: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(copy, "_compare", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            copy_store(filled.connect(), target, ignore)
    connection = target.open_writer()
    connection.exec_driver_sql("UPDATE copy_mark SET schema_version = '9999'")
    connection.close()
    with pytest.raises(CopyError, match="another release has begun"):
        copy_store(filled.connect(), target, ignore)


def test_a_source_that_is_not_there(target: Backend, tmp_path: Path) -> None:
    with pytest.raises(CopyError, match="there is no database at"):
        copy_store(backend_for(f"sqlite:///{tmp_path / 'none.db'}"), target, ignore)
    assert not (tmp_path / "none.db").exists()


def test_a_source_of_another_release(filled: Store, target: Backend) -> None:
    with filled.outside() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(CopyError, match="was migrated by a newer release: copy it, or back it up, with that one"):
        copy_store(filled.connect(), target, ignore)


def test_a_table_of_somebody_else_is_named(filled: Store, target: Backend) -> None:
    with filled.outside() as connection:
        connection.exec_driver_sql("CREATE TABLE reports (id TEXT)")
    assert copy_store(filled.connect(), target, ignore).left_out == ["reports"]


async def test_rows_that_cannot_be_copied_are_named(tmp_path: Path, clock: FakeClock) -> None:
    store = await fill_store(make_sqlite(tmp_path, clock))
    with store.outside() as connection:
        connection.exec_driver_sql("UPDATE traders SET name = 'a' || char(0) || 'b' WHERE id <> 't/0 x'")
    with empty_postgresql() as url:
        with pytest.raises(CopyError, match="2 rows of traders cannot be copied") as refused:
            copy_store(store.connect(), backend_for(url), ignore)
        assert "t/1 x: " in refused.value.message and "t/2 x: " in refused.value.message
        assert "NUL" in refused.value.message or "0x00" in refused.value.message


def test_a_time_that_is_none_is_named(tmp_path: Path, clock: FakeClock, target: Backend) -> None:
    store = make_sqlite(tmp_path, clock)
    with store.outside() as connection:
        connection.exec_driver_sql("UPDATE users SET created_at = 'yesterday'")
    with pytest.raises(CopyError, match="the table users holds a value that cannot be read"):
        copy_store(store.connect(), target, ignore)


def test_what_is_different_is_told_of_each_side() -> None:
    wanted, present = [(1, "a"), (2, "b"), (4, "d")], [(2, "B"), (3, "c"), (4, "d")]
    found = list(differences(wanted, present, lambda row: row[:1]))
    assert [(d.wanted, d.present) for d in found] == [((1, "a"), None), ((2, "b"), (2, "B")), (None, (3, "c"))]


async def test_a_large_copy_does_not_grow_with_the_table(tmp_path: Path, clock: FakeClock, target: Backend) -> None:
    """Rows go by in batches: a batch boundary loses and doubles none."""
    store = await fill_store(make_sqlite(tmp_path, clock), 2 * BATCH + 1)
    assert copy_store(store.connect(), target, ignore).tables["traders"].rows == 2 * BATCH + 1
    assert contents(target) == contents(store.connect())
