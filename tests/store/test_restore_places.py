"""Where a backup is restored to: beside nothing of another store, and whole or not at all."""

from collections.abc import Callable
from pathlib import Path

import pytest

from nofx_grpc.errors import BackupError
from nofx_grpc.store.backend import Backend, backend_for
from nofx_grpc.store.moving import restore as restoring
from nofx_grpc.store.moving.restore import Restored, restore
from nofx_grpc.store.schema import SchemaState, inspect_store
from tests.store.support import MASTER_KEY, Store
from tests.store.test_backups import backup, bring_back, files, logs
from tests.store.test_copying import filled, ignore, target

__all__ = ["backup", "bring_back", "filled", "logs", "target"]  # fixtures


@pytest.fixture
def engine() -> str:
    """A backup is the same, whatever it was made of."""
    return "sqlite"


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_nothing_is_put_beside_a_part_of_another_database(
    filled: Store, backup: Path, tmp_path: Path, suffix: str
) -> None:
    """SQLite would replay it into what was restored."""
    target = backend_for(f"sqlite:///{tmp_path / 'restored.db'}")
    part = tmp_path / f"restored.db{suffix}"
    part.write_bytes(b"of a server that was killed")
    with pytest.raises(BackupError, match=f"of which restored.db{suffix} is left"):
        restore(backup, target, tmp_path / "restored_logs", tmp_path, MASTER_KEY, ignore)
    assert not target.exists() and part.read_bytes() == b"of a server that was killed"


def test_logs_are_put_into_a_directory_that_is_there(
    backup: Path, target: Backend, bring_back: Callable[..., Restored], tmp_path: Path
) -> None:
    """It may be a file system of its own, over which nothing is renamed."""
    logs = tmp_path / "restored_logs"
    logs.mkdir()
    (logs / ".restoring").mkdir()  # of a restore that was killed
    (logs / ".id").write_text("of the store that is replaced")
    before = logs.stat().st_ino
    bring_back()
    assert sorted(str(path.relative_to(logs)) for path in files(logs)) == ["t/2/decision_2.json", "t1/decision_1.json"]
    assert logs.stat().st_ino == before and not (logs / ".restoring").exists()


@pytest.mark.parametrize("there", [True, False])
def test_without_its_database_nothing_of_a_backup_is_restored(
    backup: Path, target: Backend, bring_back: Callable[..., Restored], tmp_path: Path, there: bool
) -> None:
    logs = tmp_path / "restored_logs"
    if there:
        logs.mkdir()
        (logs / ".id").write_text("of the store that is there")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restoring, "copy_store", full)
        rename = Path.rename
        patch.setattr(Path, "rename", lambda a, b: full() if b.name == "copy.db" else rename(a, b))
        with pytest.raises(BackupError, match="No space left"):
            bring_back()
    assert not target.exists() or inspect_store(target) is SchemaState.NEW
    assert logs.exists() == there and [path.name for path in files(logs)] == [".id"] * there
    bring_back()
    assert len(files(logs)) == 2
