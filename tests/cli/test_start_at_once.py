"""Processes that start at once over a database that is new: one of them makes the store."""

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.store.support import empty_postgresql
from tests.support.postgresql import database_of, shared_server
from tests.support.processes import environment, run, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SECONDS = 30.0


def rows(where: dict[str, str], data_dir: Path, sql: str) -> list[tuple[Any, ...]]:
    if where:
        return shared_server().execute(sql, database_of(where["NOFX_GRPC_DATABASE_URL"]))
    with closing(sqlite3.connect(data_dir / "nofx.db")) as database:
        return database.execute(sql).fetchall()


@pytest.fixture
def nothing_yet(engine: str) -> Iterator[dict[str, str]]:
    """Where there is no store yet."""
    if engine == "sqlite":
        yield {}
        return
    with empty_postgresql() as url:
        yield {"NOFX_GRPC_DATABASE_URL": url}


def assert_made_once(where: dict[str, str], data_dir: Path) -> None:
    assert rows(where, data_dir, "SELECT count(*) FROM store_state") == [(1,)]
    assert rows(where, data_dir, "SELECT count(*) FROM master_key") == [(1,)]
    assert rows(where, data_dir, "SELECT count(*) FROM tokens") == [(4,)]
    assert rows(where, data_dir, "SELECT count(*) FROM keyring WHERE purpose = 'data' AND state = 'primary'") == [(1,)]


def test_processes_that_migrate_at_once_make_one_store(nothing_yet: dict[str, str], tmp_path: Path) -> None:
    env = environment(tmp_path / "data") | nothing_yet
    with ThreadPoolExecutor(4) as threads:
        ran = list(threads.map(lambda _: run("migrate", env=env), range(4)))
    assert [process.returncode for process in ran] == [0] * 4, [process.stderr for process in ran]
    assert_made_once(nothing_yet, tmp_path / "data")


def test_servers_with_workers_that_start_at_once_make_one_store(tmp_path: Path) -> None:
    """On PostgreSQL, each with a data directory of its own: on SQLite a second server with workers is refused."""
    ready = threading.Barrier(2)

    def start(name: str) -> None:
        env = environment(
            tmp_path / name, workers="2", DATA_ENCRYPTION_KEY="dGVzdCBrZXksIHRoaXJ0eS10d28gYnl0ZXMgbG9uZy4="
        )
        with serving(env | where, tmp_path / f"{name}.log") as server:
            ready.wait(SECONDS)
            assert run("health", "--address", server.address, env=server.env).returncode == 0
            assert server.stop() == 0

    with empty_postgresql() as url, ThreadPoolExecutor(2) as threads:
        where = {"NOFX_GRPC_DATABASE_URL": url, "NOFX_GRPC_DECISION_LOGS": "database"}
        list(threads.map(start, ("one", "two")))
        assert_made_once(where, tmp_path)
