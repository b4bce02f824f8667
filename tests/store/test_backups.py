"""Backups: whole, of either engine, restored to either, and refused where anything in them is not as it was written."""

import json
import shutil
import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nofx_grpc.errors import BackupError, CopyError, MasterKeyError, SchemaError
from nofx_grpc.store.backend import Backend, backend_for
from nofx_grpc.store.bootstrap import unlock
from nofx_grpc.store.moving import backups
from nofx_grpc.store.moving.backups import Manifest, describe, write_backup
from nofx_grpc.store.moving.restore import Restored, restore
from nofx_grpc.store.schema import SchemaState, inspect_store, newest_version
from tests.store.make_golden import GOLDEN
from tests.store.support import MASTER_KEY, Store
from tests.store.test_copying import contents, filled, ignore, target

__all__ = ["filled", "target"]  # fixtures

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Decision logs, one of them nested, and what is none."""
    directory = tmp_path / "decision_logs"
    for name, text in {"t1/decision_1.json": "{}", "t/2/decision_2.json": "[]", "t1/.half.tmp": "half"}.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    (directory / "t1" / "link.json").symlink_to("/etc/hostname")
    return directory


@pytest.fixture
def backup(filled: Store, tmp_path: Path, logs: Path) -> Path:
    write_backup(filled.connect(), tmp_path / "backup", logs, release="1.2.3", now=NOW, tell=ignore)
    return tmp_path / "backup"


@pytest.fixture
def bring_back(backup: Path, target: Backend, tmp_path: Path) -> Iterator[Callable[..., Restored]]:
    """Restores to the empty database; nothing of the work may be left over."""
    work = tmp_path / "work"
    work.mkdir()

    def run(master_text: str = MASTER_KEY) -> Restored:
        return restore(backup, target, tmp_path / "restored_logs", work, master_text, ignore)

    yield run
    assert list(work.iterdir()) == []
    assert not list(tmp_path.glob(".*"))


def test_a_manifest_tells_what_there_is_and_no_key(filled: Store, backup: Path) -> None:
    manifest = Manifest.read(backup)
    rows = contents(filled.connect())
    assert manifest.tables == {name: len(found) for name, found in rows.items()}
    assert (manifest.engine, manifest.schema, manifest.release) == (filled.engine, newest_version(), "1.2.3")
    assert (manifest.revision, manifest.history_id) == (rows["store_state"][0][1], rows["store_state"][0][3])
    assert manifest.made_at == "2026-01-02T00:00:00+00:00"
    assert manifest.key_ids == sorted(row[0] for row in rows["keyring"])
    assert manifest.files == {name: describe(backup / name) for name in ("nofx.db", "decision_logs.tar")}
    text = (backup / "manifest.json").read_text()
    assert not any(row[4] in text for row in rows["keyring"])  # the wrapped keys


def test_a_backup_is_its_owners_only(backup: Path) -> None:
    assert [oct(path.stat().st_mode & 0o077) for path in (backup, backup / "nofx.db")] == ["0o0", "0o0"]
    assert sorted(path.name for path in backup.iterdir()) == ["decision_logs.tar", "manifest.json", "nofx.db"]


def test_a_backup_is_not_served_as_it_is(backup: Path) -> None:
    with pytest.raises(SchemaError, match=r"is a backup, .* 'nofx-grpc restore'"):
        inspect_store(backend_for(f"sqlite:///{backup / 'nofx.db'}"))


def test_what_is_restored_is_what_was_there_with_a_history_of_its_own(
    filled: Store, target: Backend, bring_back: Callable[..., Restored], tmp_path: Path
) -> None:
    restored = bring_back()
    before, after = contents(filled.connect()), contents(target)
    (state,) = before.pop("store_state")
    (state_after,) = after.pop("store_state")
    assert after == before
    assert state_after == (*state[:3], restored.history_id, *state[4:]) and restored.history_id != state[3]
    assert inspect_store(target) is SchemaState.CURRENT
    assert unlock(target, MASTER_KEY).keyring == filled.keyring
    found = {str(p.relative_to(tmp_path / "restored_logs")): p.read_text() for p in files(tmp_path / "restored_logs")}
    assert found == {"t1/decision_1.json": "{}", "t/2/decision_2.json": "[]"}


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def test_the_wrong_master_key_restores_nothing(
    target: Backend, bring_back: Callable[..., Restored], tmp_path: Path
) -> None:
    with pytest.raises(MasterKeyError, match="does not open this database's keyring"):
        bring_back("22" * 32)
    assert not target.exists() or inspect_store(target) is SchemaState.NEW
    assert not (tmp_path / "restored_logs").exists()


def change_manifest(backup: Path, **fields: Any) -> None:
    path = backup / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def remove_rows(backup: Path) -> None:
    """As somebody would who can write the manifest, too."""
    with closing(sqlite3.connect(backup / "nofx.db")) as connection:
        connection.execute("DELETE FROM traders")
        connection.commit()
    redescribe(backup)


def redescribe(backup: Path) -> None:
    change_manifest(backup, files={n: asdict(describe(backup / n)) for n in ("nofx.db", "decision_logs.tar")})


def add_escape(backup: Path) -> None:
    (backup / "evil").write_text("{}")
    with tarfile.open(backup / "decision_logs.tar", "a") as tar:
        tar.add(backup / "evil", "../evil.json")
    (backup / "evil").unlink()
    redescribe(backup)


def add_member(backup: Path, name: str, kind: bytes) -> None:
    """Something else than a file, which would lead elsewhere or be somebody else's."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    with tarfile.open(backup / "decision_logs.tar", "a") as tar:
        tar.addfile(member)
    redescribe(backup)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit of the database": (lambda b: flip(b / "nofx.db"), "nofx.db is not what was written"),
    "a bit of the logs": (lambda b: flip(b / "decision_logs.tar"), "decision_logs.tar is not what was written"),
    "a file missing": (lambda b: (b / "nofx.db").unlink(), "nofx.db cannot be read: No such file"),
    "no manifest": (lambda b: (b / "manifest.json").unlink(), "is no backup: .*manifest.json cannot be read"),
    "no JSON": (lambda b: (b / "manifest.json").write_text("{"), "is no backup, or a damaged one"),
    "another format": (lambda b: change_manifest(b, format=9), "a backup of format 9: this release reads 1"),
    "a field too much": (lambda b: change_manifest(b, x=1), "is no backup, or a damaged one"),
    "no files": (lambda b: change_manifest(b, files={}), "names no nofx.db"),
    "a path": (lambda b: change_manifest(b, files={"../x": {"bytes": 1, "sha256": ""}}), "names a file '../x'"),
    "rows missing": (remove_rows, "traders has 0 rows, and not 3"),
    "a log outside": (add_escape, "holds '../evil.json', which is no decision log"),
    "an absolute log": (
        lambda b: add_member(b, "/nofx/evil.json", tarfile.REGTYPE),
        "holds '/nofx/evil.json', which is no",
    ),
    "a link": (lambda b: add_member(b, "t/l.json", tarfile.SYMTYPE), "holds 't/l.json', which is no decision log"),
    "a hard link": (lambda b: add_member(b, "t/h.json", tarfile.LNKTYPE), "holds 't/h.json', which is no decision log"),
    "a device": (lambda b: add_member(b, "t/d.json", tarfile.CHRTYPE), "holds 't/d.json', which is no decision log"),
    "not at all": (shutil.rmtree, "is no backup"),
}


@pytest.mark.parametrize("engine", ["sqlite"])  # a backup is the same, whatever it was made of
@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_backup_restores_nothing(
    damage: Callable[[Path], object],
    message: str,
    backup: Path,
    target: Backend,
    bring_back: Callable[..., Restored],
    tmp_path: Path,
) -> None:
    damage(backup)
    with pytest.raises(BackupError, match=message):
        bring_back()
    assert not target.exists() or inspect_store(target) is SchemaState.NEW
    assert not (tmp_path / "restored_logs").exists() and not (tmp_path / "evil.json").exists()


def test_a_backup_of_a_newer_release_is_refused(backup: Path, bring_back: Callable[..., Restored]) -> None:
    with closing(sqlite3.connect(backup / "nofx.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.execute("UPDATE store_state SET oldest_schema = '9998'")
        connection.commit()
    redescribe(backup)
    with pytest.raises(SchemaError, match="written by a newer release"):
        bring_back()


def test_a_backup_of_an_older_release_is_migrated(
    backup: Path, target: Backend, bring_back: Callable[..., Restored]
) -> None:
    (backup / "nofx.db").unlink()
    with closing(sqlite3.connect(backup / "nofx.db")) as connection:
        connection.executescript((GOLDEN / "0001.sql").read_text())
        connection.execute("CREATE TABLE copy_mark (id INTEGER PRIMARY KEY)")
    redescribe(backup)
    change_manifest(backup, tables={"traders": 1}, schema="0001")
    bring_back()
    assert inspect_store(target) is SchemaState.CURRENT
    assert len(contents(target)["traders"]) == 1


def test_nothing_is_put_over_what_is_there(
    backup: Path, target: Backend, bring_back: Callable[..., Restored], tmp_path: Path
) -> None:
    bring_back()
    before = contents(target)
    shutil.rmtree(tmp_path / "restored_logs")
    with pytest.raises((BackupError, CopyError), match="is not empty"):
        bring_back()
    assert contents(target) == before


def test_logs_are_not_put_among_others(backup: Path, bring_back: Callable[..., Restored], tmp_path: Path) -> None:
    (tmp_path / "restored_logs").mkdir()
    (tmp_path / "restored_logs" / "mine.json").write_text("{}")
    with pytest.raises(BackupError, match=r"there are decision logs in .*: move them away"):
        bring_back()


def test_a_backup_is_not_written_over_another(filled: Store, backup: Path, logs: Path) -> None:
    before = describe(backup / "nofx.db")
    with pytest.raises(BackupError, match="is there already"):
        write_backup(filled.connect(), backup, logs, release="1", now=NOW, tell=ignore)
    assert describe(backup / "nofx.db") == before


def test_a_backup_that_fails_leaves_nothing(
    filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backups, "_pack", full)
    with pytest.raises(BackupError, match=r"cannot be written to .*: No space left on device"):
        write_backup(filled.connect(), tmp_path / "backup", logs, release="1", now=NOW, tell=ignore)
    assert not list(tmp_path.glob("*backup*")) and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("engine", ["sqlite"])
def test_of_two_backups_to_one_directory_one_is_refused(filled: Store, tmp_path: Path, logs: Path) -> None:
    def begin_another(step: str, done: int, total: int) -> None:
        with pytest.raises(BackupError, match=r"another backup to .* is being made"):
            write_backup(filled.connect(), tmp_path / "backup", logs, release="2", now=NOW, tell=ignore)

    write_backup(filled.connect(), tmp_path / "backup", logs, release="1", now=NOW, tell=begin_another)
    assert backups.check(tmp_path / "backup").release == "1"


@pytest.mark.parametrize("engine", ["sqlite"])
def test_what_a_backup_that_was_killed_has_left_goes(filled: Store, tmp_path: Path, logs: Path) -> None:
    (tmp_path / ".backup.partial").mkdir()
    (tmp_path / ".backup.partial" / "nofx.db").write_text("half of it")
    write_backup(filled.connect(), tmp_path / "backup", logs, release="1", now=NOW, tell=ignore)
    assert backups.check(tmp_path / "backup").release == "1" and not (tmp_path / ".backup.partial").exists()


@pytest.mark.parametrize("engine", ["sqlite"])
def test_a_log_that_is_pruned_while_it_is_packed_is_left_out(
    filled: Store, tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prune(path: Path) -> bool:
        if path.name == "decision_1.json":
            path.unlink()
        return False

    monkeypatch.setattr(Path, "is_symlink", prune)
    write_backup(filled.connect(), tmp_path / "backup", logs, release="1", now=NOW, tell=ignore)
    with tarfile.open(tmp_path / "backup" / "decision_logs.tar") as tar:
        assert "t/2/decision_2.json" in tar.getnames() and "t1/decision_1.json" not in tar.getnames()


def test_a_backup_goes_on_where_others_write(filled: Store, tmp_path: Path, logs: Path) -> None:
    """It is as of one moment; what is written meanwhile is not in it."""

    def write(step: str, done: int, total: int) -> None:
        with filled.outside() as connection:
            connection.exec_driver_sql("UPDATE store_state SET revision = revision + 1")

    before = contents(filled.connect())["store_state"][0][1]
    manifest = write_backup(filled.connect(), tmp_path / "backup", logs, release="1", now=NOW, tell=write)
    assert manifest.revision == before < contents(filled.connect())["store_state"][0][1]
