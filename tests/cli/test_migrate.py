"""`nofx-grpc migrate`, and how the command says what is wrong."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from nofx_grpc import __version__
from nofx_grpc.store.schema import newest_version
from tests.support.processes import environment, run

pytestmark = pytest.mark.e2e


def test_a_new_database_and_then_a_current_one(tmp_path: Path) -> None:
    env = environment(tmp_path / "data")
    report = {"database": str(tmp_path / "data" / "nofx.db"), "schema": newest_version()}
    assert json.loads(run("migrate", "--json", env=env).stdout) == report | {"was": "new"}
    assert json.loads(run("migrate", "--json", env=env).stdout) == report | {"was": "current"}
    assert "current, now at schema" in run("migrate", env=env).stdout


def test_a_database_of_nofx_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "config.db"
    with closing(sqlite3.connect(path)) as connection:
        for table in ("users", "traders", "system_config"):
            connection.execute(f"CREATE TABLE {table} (id TEXT)")
        connection.commit()
    before = path.read_bytes()
    refused = run("migrate", "--json", env=environment(tmp_path / "data", database_url=f"sqlite:///{path}"))
    error = json.loads(refused.stdout)["error"]
    assert refused.returncode == 3 and error["reason"] == "SCHEMA_ERROR"
    assert f"run 'nofx-grpc adopt {path}'" in error["message"]
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"no database, but a text that is longer than a header" * 9])
def test_a_file_that_is_no_database(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    ran = run("migrate", env=environment(tmp_path / "data", database_url=f"sqlite:///{path}"))
    if content:
        assert ran.returncode == 3 and "file is not a database" in ran.stderr and "Traceback" not in ran.stderr
        assert path.read_bytes() == content
    else:
        assert ran.returncode == 0


def test_a_directory_that_does_not_exist(tmp_path: Path) -> None:
    ran = run("migrate", env=environment(tmp_path / "data", database_url=f"sqlite:///{tmp_path}/none/x.db"))
    assert ran.returncode == 3 and "No such file or directory" in ran.stderr and "Traceback" not in ran.stderr


def test_every_wrong_setting_is_named(tmp_path: Path) -> None:
    refused = run("migrate", env=environment(tmp_path, listen="abc", log_level="loud"))
    assert refused.returncode == 3
    names = [line.split()[1] for line in refused.stderr.splitlines()]
    assert sorted(names) == ["NOFX_GRPC_LISTEN", "NOFX_GRPC_LOG_LEVEL"]


def test_the_version(tmp_path: Path) -> None:
    assert run("--version", env=environment(tmp_path)).stdout == f"nofx-grpc {__version__}\n"


def test_wrong_use(tmp_path: Path) -> None:
    assert run("frobnicate", env=environment(tmp_path)).returncode == 2
