"""The schema: as the code declares it, made in one step or not at all, and refused where it is not ours."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Text, inspect

from nofx_grpc.errors import SchemaError
from nofx_grpc.store.backend import backend_for
from nofx_grpc.store.schema import SchemaState, inspect_store, migrate, newest_version
from nofx_grpc.store.sqlite import driver_connection, trigger_statements
from nofx_grpc.store.tables import INTERNAL_TABLES, RESOURCES, TIMESTAMPED, metadata
from tests.store.support import (
    Store,
    empty_postgresql,
    run_python,
)


def test_the_migrations_make_what_the_code_declares(store: Store) -> None:
    with store.outside() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


def test_the_migrations_make_the_keys_that_the_code_declares(store: Store) -> None:
    """What alembic does not compare on every engine: primary keys, and what foreign keys do on a delete."""
    with store.outside() as connection:
        inspector = inspect(connection)
        for table in metadata.sorted_tables:
            made = inspector.get_pk_constraint(table.name)
            assert (made["name"], made["constrained_columns"]) == (
                table.primary_key.name,
                [column.name for column in table.primary_key],
            )
            foreign = {
                (key["name"], tuple(key["constrained_columns"]), key["options"].get("ondelete"))
                for key in inspector.get_foreign_keys(table.name)
            }
            assert foreign == {
                (key.name, tuple(column.name for column in key.columns), key.ondelete)
                for key in table.foreign_key_constraints
            }


def test_every_table_is_known(store: Store) -> None:
    listed = {resource.table.name for resource in RESOURCES} | {table.name for table in INTERNAL_TABLES}
    assert listed == set(metadata.tables)
    with store.outside() as connection:
        assert set(inspect(connection).get_table_names()) == listed | {"alembic_version"}


def dump(store: Store) -> list[str]:
    """Every row, and the schema."""
    with store.outside() as connection:
        if store.engine == "sqlite":
            return list(driver_connection(connection).iterdump())
        tables = sorted(inspect(connection).get_table_names())
        rows = {name: connection.exec_driver_sql(f"TABLE {name}").fetchall() for name in tables}
        return [f"{name}: {sorted(map(str, rows[name]))}" for name in tables] + catalog(connection)


def catalog(connection: Connection) -> list[str]:
    """PostgreSQL's schema."""
    columns = (
        "SELECT t.relname, a.attname, a.atttypid::regtype, a.attnotnull, a.attcollation::regcollation::text, a.attnum,"
        " pg_get_expr(d.adbin, d.adrelid) FROM pg_attribute a JOIN pg_class t ON t.oid = a.attrelid"
        " LEFT JOIN pg_attrdef d ON d.adrelid = t.oid AND d.adnum = a.attnum"
        " WHERE a.attnum > 0 AND t.relnamespace = 'public'::regnamespace"
    )
    found: list[str] = []
    for sql in (
        columns,
        "SELECT * FROM pg_indexes WHERE schemaname = 'public'",
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace",
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
        "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
    ):
        found += sorted(str(tuple(row)) for row in connection.exec_driver_sql(sql))
    return found


def dump_schema(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE sql <> '' ORDER BY name")]


def test_the_triggers_are_those_of_the_list(store: Store) -> None:
    with store.outside() as connection:
        if store.engine == "sqlite":
            found = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
            assert {row.name: row.sql for row in found} == trigger_statements(TIMESTAMPED)
        else:
            sql = "SELECT tgname, tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal"
            listed = {(f"update_{table.table}_updated_at", table.table) for table in TIMESTAMPED}
            assert {tuple(row) for row in connection.exec_driver_sql(sql)} == listed


def test_text_is_ordered_by_bytes(store: Store) -> None:
    """SQLite has no other order; PostgreSQL has that of its database unless each column says otherwise."""
    with store.outside() as connection:
        inspector = inspect(connection)
        for table in metadata.sorted_tables:
            for column in inspector.get_columns(table.name):
                if isinstance(column["type"], Text) and store.engine == "postgresql":
                    assert column["type"].collation == "C", (table.name, column["name"])


def test_migrating_again_does_nothing(store: Store) -> None:
    before = dump(store)
    assert not migrate(store.connect(), lambda _: pytest.fail("a store that is not new was seeded"))
    assert dump(store) == before


@pytest.fixture
def empty(engine: str, tmp_path: Path) -> Iterator[str]:
    """The URL of a database that holds nothing."""
    if engine == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    with empty_postgresql() as url:
        yield url


def test_a_seed_that_fails_leaves_nothing(empty: str) -> None:
    def fail(connection: object) -> None:
        raise ValueError("in the seed")

    backend = backend_for(empty)
    with pytest.raises(ValueError, match="in the seed"):
        migrate(backend, fail)
    assert inspect_store(backend) is SchemaState.NEW
    assert migrate(backend, lambda _: None)


KILLED_AT_EACH_STEP = """
import os, signal, sys
from pathlib import Path
from alembic.operations import Operations
from nofx_grpc.store import bootstrap, schema
from nofx_grpc.store.backend import backend_for
from nofx_grpc.store.postgresql import PostgresqlBackend
from nofx_grpc.store.sqlite import SqliteBackend
from tests.store.support import FIRST_START, MASTER_KEY
from tests.support.clock import START

def kill_after(steps):
    left = steps
    def counted(do):
        def wrapped(*args, **kwargs):
            nonlocal left
            done = do(*args, **kwargs)
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return done
        return wrapped
    Operations.invoke = counted(Operations.invoke)  # each operation of a migration
    for backend in (SqliteBackend, PostgresqlBackend):
        backend.install_triggers = counted(backend.install_triggers)
    bootstrap.seed = counted(bootstrap.seed)

def start(url, steps):
    # Start in a process of its own, killed after so many steps; its exit status.
    child = os.fork()
    if child == 0:
        if steps:
            kill_after(steps)
        bootstrap.open_store(backend_for(url), MASTER_KEY, FIRST_START, START, os.urandom)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

steps, url = 1, sys.argv[1]
while start(url, steps) != 0:
    print(steps, schema.inspect_store(backend_for(url)).name, flush=True)
    steps += 1
"""


def test_a_kill_at_any_step_leaves_the_database_as_it_was(empty: str, store: Store) -> None:
    """One start after the other over the same database, each killed a step later, until one comes through."""
    killed = [line.split() for line in run_python(KILLED_AT_EACH_STEP, empty).splitlines()]
    assert len(killed) > len(metadata.tables), "each table is a step, and so are the triggers and the seed"
    assert {state for _, state in killed} == {"NEW"}
    complete = Store(empty, store.clock, store.keyring, lambda: backend_for(empty))
    assert schema_of(complete) == schema_of(store)


def schema_of(store: Store) -> list[str]:
    with store.outside() as connection:
        if store.engine == "sqlite":
            return dump_schema(Path(store.url.removeprefix("sqlite:///")))
        return catalog(connection)


def refusal(path: Path) -> str:
    """Why this database is refused; looking at it must not change it."""
    before = path.read_bytes()
    with pytest.raises(SchemaError) as inspected:
        inspect_store(backend_for(f"sqlite:///{path}"))
    with pytest.raises(SchemaError):
        migrate(backend_for(f"sqlite:///{path}"), lambda _: None)
    assert path.read_bytes() == before
    return inspected.value.message


def make(path: Path, *statements: str) -> Path:
    connection = sqlite3.connect(path, isolation_level=None)
    for sql in statements:
        connection.execute(sql)
    connection.close()
    return path


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "other.db", "CREATE TABLE songs (title TEXT)")
    assert refusal(path) == f"{path} holds tables that are not nofx-grpc's: give it a database of its own"


@pytest.mark.parametrize("version", ["0001", "abc"])
def test_a_database_of_something_else_that_uses_alembic_is_refused(tmp_path: Path, version: str) -> None:
    version_table = "CREATE TABLE alembic_version (version_num TEXT)"
    insert = f"INSERT INTO alembic_version VALUES ('{version}')"  # noqa: S608  # a version of this file
    path = make(tmp_path / "other.db", "CREATE TABLE songs (title TEXT)", version_table, insert)
    assert "not nofx-grpc's" in refusal(path)


def test_a_nofx_database_is_refused_with_the_command_to_run(tmp_path: Path) -> None:
    tables = [f"CREATE TABLE {name} (id TEXT)" for name in ("users", "traders", "system_config", "exchanges")]
    path = make(tmp_path / "config.db", *tables)
    text = refusal(path)
    assert "has not been adopted" in text and f"nofx-grpc adopt {path}" in text


def test_a_database_of_a_newer_release_is_refused(store: Store) -> None:
    """Of one that has contracted the schema since: what this release reads and writes is not there any more."""
    with store.outside() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        connection.exec_driver_sql("UPDATE store_state SET oldest_schema = '9998'")
    before = dump(store)
    with pytest.raises(SchemaError) as refused:
        migrate(store.connect(), lambda _: None)
    assert "newer release" in refused.value.message and newest_version() in refused.value.message
    assert "backup" in refused.value.message
    assert dump(store) == before


def test_tables_of_something_else_are_refused_on_every_engine(empty: str) -> None:
    connection = backend_for(empty).open_writer()
    connection.exec_driver_sql("CREATE TABLE songs (title TEXT)")
    connection.close()
    with pytest.raises(SchemaError, match="holds tables that are not nofx-grpc's"):
        migrate(backend_for(empty), lambda _: None)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, and longer than the header of one " * 20)
    assert "file is not a database" in refusal(path)


def test_a_database_that_is_not_there_is_not_made_by_looking(tmp_path: Path) -> None:
    assert inspect_store(backend_for(f"sqlite:///{tmp_path}/nofx.db")) is SchemaState.NEW
    assert list(tmp_path.iterdir()) == []
