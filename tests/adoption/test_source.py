"""NOFX's files are not touched, in whatever state they are: closed, in use, or left by a crash."""

import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nofx_grpc.errors import AdoptionError
from nofx_grpc.store.adoption.source import open_source
from tests.support.adoption import adopt
from tests.support.files import snapshot
from tests.support.nofx_db import NofxDatabase, held_open


def crash(nofx: NofxDatabase, to: Path) -> Path:
    """The files as a crash leaves them: copied while the database is open, its -wal not yet in the database."""
    shutil.copytree(nofx.path.parent, to)
    nofx.close()
    return to / nofx.path.name


def test_a_database_in_use_is_read_with_its_wal(nofx: NofxDatabase, tmp_path: Path) -> None:
    nofx.complete_user()
    nofx.close()
    with held_open(nofx.path, "UPDATE traders SET name = 'in the WAL'") as pid:
        before = snapshot(nofx.path.parent)
        assert before["config.db-wal"][0]
        found = adopt(nofx.path, tmp_path / "data")
        assert snapshot(nofx.path.parent) == before
    assert found.row("traders", "t1")["name"] == "in the WAL"
    assert str(nofx.path) + "-wal" in {file.path for file in found.report.files_with_clear_secrets}
    [problem] = found.problems("source_in_use")
    assert str(pid) in problem.detail


def test_a_writer_is_neither_held_up_nor_torn_apart(nofx: NofxDatabase) -> None:
    nofx.complete_user()
    stop = threading.Event()

    def write() -> None:
        writer = sqlite3.connect(nofx.path, isolation_level=None, timeout=0)
        count = 0
        while not stop.is_set():
            count += 1
            writer.execute("BEGIN IMMEDIATE")
            for table in ("users", "traders"):
                writer.execute(f"UPDATE {table} SET updated_at = ?", (count,))  # noqa: S608  # named here
            writer.execute("COMMIT")
        writer.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(20):
            source = open_source(nofx.path)
            [user], [trader] = source.rows("users"), source.rows("traders")
            assert user["updated_at"] == trader["updated_at"]
            source.close()
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("lost", [(), ("-shm",)])
def test_what_a_crash_left_is_read_with_its_wal(nofx: NofxDatabase, tmp_path: Path, lost: tuple[str, ...]) -> None:
    nofx.complete_user()
    path = crash(nofx, tmp_path / "crashed")
    for suffix in lost:
        path.with_name(path.name + suffix).unlink()
    before = snapshot(path.parent)
    found = adopt(path, tmp_path / "data")
    assert found.row("traders", "t1")["name"] == "T"
    assert snapshot(path.parent) == before


def test_a_torn_end_of_the_wal_is_ignored(nofx: NofxDatabase, tmp_path: Path) -> None:
    nofx.complete_user()
    path = crash(nofx, tmp_path / "crashed")
    wal = path.with_name(path.name + "-wal")
    wal.write_bytes(wal.read_bytes() + b"\xff" * 3000)
    path.with_name(path.name + "-shm").unlink()
    assert adopt(path, tmp_path / "data").row("traders", "t1")


def test_a_hot_journal_is_rolled_back_in_memory(nofx: NofxDatabase, tmp_path: Path) -> None:
    nofx.complete_user()
    nofx.connection.execute("PRAGMA journal_mode=DELETE")
    nofx.close()
    script = (
        "import os, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('PRAGMA cache_size=1')\n"
        "c.execute('BEGIN')\n"
        "c.execute('UPDATE traders SET name = ?', ('not committed',))\n"
        "c.execute('CREATE TABLE filler AS SELECT hex(randomblob(2000)) FROM (VALUES (1), (2), (3), (4))')\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(nofx.path)], check=True)
    before = snapshot(nofx.path.parent)
    assert before["config.db-journal"][0]
    assert adopt(nofx.path, tmp_path / "data").row("traders", "t1")["name"] == "T"
    assert snapshot(nofx.path.parent) == before


def test_read_only_files_can_be_adopted(nofx: NofxDatabase, tmp_path: Path) -> None:
    nofx.complete_user()
    path = nofx.close()
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        assert adopt(path, tmp_path / "data").row("traders", "t1")
    finally:
        path.parent.chmod(0o700)


def test_no_copy_is_left_behind(nofx: NofxDatabase, tmp_path: Path) -> None:
    nofx.complete_user()
    path = crash(nofx, tmp_path / "crashed")
    path.with_name(path.name + "-shm").unlink()
    before = set(Path("/dev/shm").glob("nofx-grpc-*"))  # noqa: S108  # where the copies are made
    adopt(path, tmp_path / "data")
    assert set(Path("/dev/shm").glob("nofx-grpc-*")) <= before  # noqa: S108  # as above


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist: name NOFX's database file, usually config.db"),
        (b"", "is not a SQLite database"),
        (b"{}", "is not a SQLite database"),
    ],
)
def test_what_is_no_database_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "config.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AdoptionError, match=message):
        adopt(path, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdoptionError, match=r"is a directory: name the database file in it, as .*config\.db"):
        adopt(tmp_path, tmp_path / "data")


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE users (id)")
    connection.close()
    with pytest.raises(AdoptionError, match="not a database of NOFX: it has no table system_config, traders"):
        adopt(path, tmp_path / "data")


def test_a_damaged_database_is_refused(nofx: NofxDatabase, tmp_path: Path) -> None:
    nofx.complete_user()
    path = nofx.close()
    content = bytearray(path.read_bytes())
    content[4096 * 2 :] = b"\xff" * (len(content) - 4096 * 2)
    path.write_bytes(content)
    with pytest.raises(AdoptionError, match=r"is damaged|cannot be read"):
        adopt(path, tmp_path / "data")
    assert not (tmp_path / "data/nofx.db").exists()
