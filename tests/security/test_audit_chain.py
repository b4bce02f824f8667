"""Every record is a link of a chain without a gap, whatever becomes of the transaction that it is written in."""

import asyncio
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from nofx_grpc.crypto.chain import ChainKey
from nofx_grpc.store import audit, audit_chain, schema
from nofx_grpc.store.audit import AuditRecord
from nofx_grpc.store.audit_chain import BEFORE, SEALED
from nofx_grpc.store.backend import backend_for
from nofx_grpc.store.bootstrap import open_store
from nofx_grpc.store.engine import Database
from tests.security.support import chains, on_driver, unbroken
from tests.store.make_golden import GOLDEN
from tests.store.support import FIRST_START, Store, Watched, empty_postgresql, make_store
from tests.support.clock import FakeClock


def record(number: int) -> AuditRecord:
    return AuditRecord("token:t", "engine", "/nofx_grpc.v1.Traders/GetTraderConfig", "unix:", resources=f"t{number}")


async def append(database: Database, *numbers: int) -> None:
    await asyncio.gather(*(database.append(audit.append, record(number)) for number in numbers))


async def in_chains(database: Database) -> dict[str, list[int]]:
    return (await database.scan(chains)).value


async def all_unbroken(database: Database, store: Store) -> bool:
    key = ChainKey(store.keyring.audit)
    found = await in_chains(database)
    return all([(await database.scan(unbroken, key, chain_id)).value for chain_id in found])


def refuse() -> None:
    raise OperationalError("COMMIT", {}, Exception("refused by the test"))


async def test_records_follow_each_other_over_batches(database: Database, store: Store) -> None:
    for first in (0, 10, 20):
        await append(database, *range(first, first + 10))
    ((chain_id, places),) = (await in_chains(database)).items()
    assert places == list(range(1, 31)) and await all_unbroken(database, store)
    assert re.fullmatch(r"20260102T030405Z-[0-9a-f]{12}", chain_id), "it says when the chain began"


async def test_every_column_is_sealed(database: Database) -> None:
    assert {*SEALED, "mac"} == set(audit.audit_log.c.keys())


async def test_a_batch_that_is_rolled_back_leaves_no_gap(database: Database, watched: Watched, store: Store) -> None:
    await append(database, 1)
    watched.before["COMMIT"] = refuse
    with pytest.raises(OperationalError):
        await append(database, 2, 3)
    watched.before.clear()
    await database.write(lambda _: None)  # commits, and has no record: what was rolled back must not count by it
    await append(database, 4)
    ((_, places),) = (await in_chains(database)).items()
    assert places == [1, 2] and await all_unbroken(database, store)


async def test_what_is_run_again_does_not_fork_the_chain(store: Store) -> None:
    async with store.open(batch_seconds=0.5) as database:
        bad = AuditRecord("token:t", "engine", None, "unix:")  # type: ignore[arg-type]  # what the table refuses
        answers = await asyncio.gather(
            append(database, *range(5)),
            database.append(audit.append, bad),
            append(database, *range(5, 10)),
            return_exceptions=True,
        )
        assert [type(answer).__name__ for answer in answers] == ["NoneType", "AuditUnavailable", "NoneType"]
        ((_, places),) = (await in_chains(database)).items()
        assert places == list(range(1, 11)) and await all_unbroken(database, store)


async def test_after_a_commit_that_nobody_knows_of_another_chain_begins(
    database: Database, watched: Watched, store: Store
) -> None:
    await append(database, 1)
    watched.before["COMMIT"], watched.uncertain = refuse, True
    with pytest.raises(Exception, match="may have taken effect"):
        await append(database, 2)
    watched.before.clear()
    await append(database, 3)
    assert sorted((await in_chains(database)).values()) == [[1], [1]] and await all_unbroken(database, store)


async def test_on_a_new_connection_another_chain_begins(database: Database, watched: Watched, store: Store) -> None:
    await append(database, 1)
    watched.connections[0].close()
    await append(database, 2)
    assert sorted((await in_chains(database)).values()) == [[1], [1]] and await all_unbroken(database, store)


async def test_two_writers_have_a_chain_each(store: Store) -> None:
    async with store.open() as one, store.open() as two:
        await asyncio.gather(append(one, *range(20)), append(two, *range(30)))
        assert sorted(map(len, (await in_chains(one)).values())) == [20, 30]
        assert await all_unbroken(one, store)


# ---- databases of the release that had no chains


@pytest.fixture
def old(engine: str, tmp_path: Path) -> Iterator[str]:
    """The URL of a database of the schema 0001 with a keyring and three audit records, of which one was removed."""
    if engine == "sqlite":
        url = f"sqlite:///{tmp_path}/old.db"
        fill_old(url)
        yield url
        return
    with empty_postgresql() as url:
        fill_old(url)
        yield url


def fill_old(url: str) -> None:
    backend = backend_for(url)
    connection = backend.open_writer()
    with backend.schema_transaction(connection):
        command.upgrade(schema._config(connection), "0001")  # there is no other way to an old schema
        copy_golden_rows(connection)
        for number in (1, 2, 3):
            on_driver(
                connection,
                "INSERT INTO audit_log (at, principal, method, resources, outcome) VALUES (?, 'p', 'm', ?, 'OK')",
                f"2026-01-02 03:04:0{number}",
                f"r{number}",
            )
        on_driver(connection, "DELETE FROM audit_log WHERE id = 2")
    connection.close()


def copy_golden_rows(connection: Connection) -> None:
    """What a store cannot do without."""
    with closing(sqlite3.connect(":memory:")) as golden:
        golden.executescript((GOLDEN / "0001.sql").read_text())
        golden.row_factory = sqlite3.Row
        for name in ("keyring", "master_key", "store_state"):
            for row in golden.execute(f"SELECT * FROM {name}"):  # noqa: S608  # our own tables
                marks = ", ".join("?" * len(row))
                columns = ", ".join(row.keys())
                on_driver(connection, f"INSERT INTO {name} ({columns}) VALUES ({marks})", *row)  # noqa: S608


def test_old_records_are_chained_as_they_are_found(old: str, clock: FakeClock) -> None:
    store = make_store(old, clock)
    with store.outside() as connection:
        assert chains(connection) == {BEFORE: [1, 2]}
        assert unbroken(connection, ChainKey(store.keyring.audit), BEFORE)
        kept = on_driver(connection, "SELECT resources FROM audit_log ORDER BY chain_position").scalars().all()
        assert kept == ["r1", "r3"]


def test_a_key_that_does_not_fit_leaves_the_old_database_as_it_was(old: str, clock: FakeClock) -> None:
    with pytest.raises(Exception, match="the master key does not open"):
        open_store(backend_for(old), "22" * 32, FIRST_START, clock(), os.urandom)
    connection = backend_for(old).open_reader()
    assert on_driver(connection, "SELECT version_num FROM alembic_version").scalar_one() == "0001"
    assert on_driver(connection, "SELECT count(*) FROM audit_log WHERE mac IS NULL").scalar_one() == 2
    connection.close()


def test_records_are_sealed_afterwards_that_one_time_only(old: str, clock: FakeClock) -> None:
    """Or else whoever can write the database would have what he has edited sealed by the next migration."""
    store = make_store(old, clock)
    with store.outside() as connection:
        on_driver(connection, "UPDATE audit_log SET mac = ?, resources = 'edited' WHERE chain_position = 2", b"")
        audit_chain.seal_old_records(connection, ChainKey(store.keyring.audit))
        assert not unbroken(connection, ChainKey(store.keyring.audit), BEFORE)
