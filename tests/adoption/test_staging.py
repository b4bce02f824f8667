"""The new database appears whole or not at all; in place, NOFX's is replaced only when nobody has it open."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nofx_grpc.crypto.envelope import Envelope
from nofx_grpc.errors import AdoptionError, SchemaError
from nofx_grpc.store.adoption.adopt import Adoption
from nofx_grpc.store.adoption.staging import building
from nofx_grpc.store.backend import backend_for
from nofx_grpc.store.schema import SchemaState, inspect_store
from tests.support.adoption import adopt
from tests.support.files import snapshot
from tests.support.nofx_db import KEY, NofxDatabase, held_open

STEPS = ["read", "users", "traders", "beta_codes", "commit", "verify", "replace"]

KILLED_AT = """
import os, signal, sys
from nofx_grpc.store.adoption import adopt
from nofx_grpc.cli.main import main
from contextlib import contextmanager
import nofx_grpc.cli.adopt as command

@contextmanager
def deadly():
    def tell(step, done, total):
        if step == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGKILL)
    yield tell

command.bar = deadly
main(["adopt", *sys.argv[2:]])
"""


def killed_at(step: str, directory: Path, *arguments: str) -> None:
    env = os.environ | {"NOFX_GRPC_DATA_DIR": str(directory), "DATA_ENCRYPTION_KEY": KEY}
    command = [sys.executable, "-c", KILLED_AT, step, *arguments]
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_leaves_no_half_database(nofx: NofxDatabase, tmp_path: Path, step: str) -> None:
    nofx.complete_user()
    path = nofx.close()
    before = snapshot(path.parent)
    killed_at(step, tmp_path / "data", str(path))
    assert not (tmp_path / "data/nofx.db").exists()
    found = adopt(path, tmp_path / "data")
    assert {file.name for file in (tmp_path / "data").iterdir()} == {"nofx.db", "tokens", ".lock"}
    assert snapshot(path.parent) == before
    assert found.secret("exchanges", "api_key", "u1", "binance") == "exchange-api-key"


@pytest.mark.parametrize("step", ["traders", "replace"])
def test_a_kill_in_place_leaves_the_original(nofx: NofxDatabase, tmp_path: Path, step: str) -> None:
    nofx.complete_user()
    path = nofx.close()
    content = path.read_bytes()
    killed_at(step, tmp_path / "data", str(path), "--in-place")
    assert path.read_bytes() == content
    found = adopt(path, tmp_path / "data", in_place=True)
    assert {file.name for file in path.parent.iterdir()} == {"config.db", Path(found.report.backup).name}
    assert found.row("traders", "t1")


def test_a_target_that_holds_data_is_refused(nofx: NofxDatabase, tmp_path: Path) -> None:
    nofx.complete_user()
    path = nofx.close()
    adopt(path, tmp_path / "data")
    before = snapshot(tmp_path / "data")
    with pytest.raises(AdoptionError, match="already holds data"):
        adopt(path, tmp_path / "data")
    after = snapshot(tmp_path / "data")
    assert after == before


def test_a_wal_of_a_lost_database_is_not_taken_for_the_new_ones(nofx: NofxDatabase, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(0o700)
    (tmp_path / "data/nofx.db-wal").write_bytes(b"x")
    with pytest.raises(AdoptionError, match="left of a database that is not there any more"):
        adopt(nofx.close(), tmp_path / "data")


def test_the_new_database_is_private(nofx: NofxDatabase, tmp_path: Path) -> None:
    found = adopt(nofx.close(), tmp_path / "data")
    assert found.target.stat().st_mode & 0o777 == 0o600


def test_to_another_url(nofx: NofxDatabase, tmp_path: Path) -> None:
    nofx.complete_user()
    target = tmp_path / "elsewhere" / "store.db"
    target.parent.mkdir()
    found = adopt(nofx.close(), tmp_path / "data", to=f"sqlite:///{target}")
    assert found.target == target
    assert found.row("traders", "t1")


def test_a_target_in_a_directory_that_is_missing_is_refused(nofx: NofxDatabase, tmp_path: Path) -> None:
    with pytest.raises(AdoptionError, match=r"missing/store\.db.* cannot be used: No such file or directory"):
        adopt(nofx.close(), tmp_path / "data", to=f"sqlite:///{tmp_path / 'missing' / 'store.db'}")


def test_a_full_disk_leaves_nothing(tmp_path: Path, nofx: NofxDatabase) -> None:
    for number in range(200):
        nofx.user(f"user-{number}", otp_secret="TXF7W7GTEC7ATYWZMW6EDAV3Q3IHHCA6")
    path = nofx.close()
    env = os.environ | {"NOFX_GRPC_DATA_DIR": str(tmp_path / "data"), "DATA_ENCRYPTION_KEY": KEY}
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000)); import signal\n"
    limited += "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); from nofx_grpc.cli.main import main\n"
    limited += "sys.exit(main(['adopt', sys.argv[1]]))"
    command = [sys.executable, "-c", limited, str(path)]
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert {file.name for file in (tmp_path / "data").iterdir()} == {"tokens", ".lock"}


def test_tokens_of_a_store_that_is_there_are_left_alone(nofx: NofxDatabase, tmp_path: Path) -> None:
    path = nofx.close()
    adopt(path, tmp_path / "data")
    token = (tmp_path / "data/tokens/admin").read_text()
    other = adopt(path, tmp_path / "data", to=f"sqlite:///{tmp_path / 'other.db'}")
    assert (tmp_path / "data/tokens/admin").read_text() == token
    assert other.table("tokens") == []


def test_an_adopted_database_is_not_adopted_again(nofx: NofxDatabase, tmp_path: Path) -> None:
    found = adopt(nofx.close(), tmp_path / "data")
    with pytest.raises(AdoptionError, match="is nofx-grpc's already"):
        adopt(found.target, tmp_path / "other")


def test_at_start_an_unadopted_database_is_refused_with_the_command_to_run(nofx: NofxDatabase) -> None:
    before = snapshot(nofx.close().parent)
    with pytest.raises(SchemaError, match=f"nofx-grpc adopt .*{nofx.path}"):
        inspect_store(backend_for(f"sqlite:///{nofx.path}"))
    assert snapshot(nofx.path.parent) == before


def test_in_place_replaces_the_original_after_a_backup(nofx: NofxDatabase, tmp_path: Path) -> None:
    nofx.complete_user()
    path = nofx.close()
    found = adopt(path, tmp_path / "data", in_place=True)
    assert found.target == path
    assert inspect_store(backend_for(f"sqlite:///{path}")) is SchemaState.CURRENT
    assert found.secret("exchanges", "secret_key", "u1", "binance") == "exchange-secret"
    backup = Path(found.report.backup)
    assert backup.stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(backup) as connection:
        assert connection.execute("SELECT id FROM traders").fetchall() == [("t1",)]
    connection.close()
    assert [file.path for file in found.report.files_with_clear_secrets] == [str(backup)]


def test_in_place_takes_what_is_only_in_the_wal(nofx: NofxDatabase, tmp_path: Path) -> None:
    nofx.complete_user()
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for file in nofx.path.parent.iterdir():
        (crashed / file.name).write_bytes(file.read_bytes())
    nofx.close()
    found = adopt(crashed / "config.db", tmp_path / "data", in_place=True)
    assert not list(crashed.glob("config.db-*"))
    assert found.row("traders", "t1")
    backup = sqlite3.connect(found.report.backup)
    assert backup.execute("SELECT count(*) FROM traders").fetchone() == (1,)
    backup.close()


@pytest.mark.parametrize("hidden", [False, True])
def test_in_place_is_refused_while_another_process_has_it_open(
    nofx: NofxDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hidden: bool
) -> None:
    """With `hidden`, /proc does not tell: the lock does."""
    nofx.complete_user()
    path = nofx.close()
    with held_open(path, "SELECT * FROM users"):
        before = snapshot(path.parent)
        if hidden:
            monkeypatch.setattr("nofx_grpc.store.adoption.staging.opened_by", lambda _: [])
        with pytest.raises(AdoptionError, match=r"is in use .*stop NOFX"):
            adopt(path, tmp_path / "data", in_place=True)
        assert snapshot(path.parent).keys() == before.keys()
        assert snapshot(path.parent)["config.db"] == before["config.db"]


def test_in_place_is_refused_if_the_database_has_changed_since(
    nofx: NofxDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nofx.complete_user()
    path = nofx.close()
    build = Adoption._build

    def change_then_build(adoption: Adoption, *arguments: Any) -> None:
        with sqlite3.connect(path) as other:
            other.execute("UPDATE traders SET name = 'later'")
        other.close()
        build(adoption, *arguments)

    monkeypatch.setattr(Adoption, "_build", change_then_build)
    with pytest.raises(AdoptionError, match="has changed while it was read"):
        adopt(path, tmp_path / "data", in_place=True)
    assert [file.name for file in path.parent.iterdir()] == ["config.db"]
    monkeypatch.undo()
    assert adopt(path, tmp_path / "data", in_place=True).row("traders", "t1")["name"] == "later"


def test_a_verification_that_fails_leaves_nothing(
    nofx: NofxDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secrets that do not come back as they went in are the worst that could happen to an operator."""
    nofx.complete_user()
    path = nofx.close()
    monkeypatch.setattr(Envelope, "open", lambda *_: "another secret")
    with pytest.raises(AdoptionError, match=r"verification failed: users\.otp_secret of 'u1' does not open"):
        adopt(path, tmp_path / "data")
    assert {file.name for file in (tmp_path / "data").iterdir()} == {"tokens", ".lock"}


def test_two_adoptions_of_one_target_do_not_mix(nofx: NofxDatabase, tmp_path: Path) -> None:
    path = nofx.close()
    with building(tmp_path / "store.db"), pytest.raises(AdoptionError, match="another adoption is building"):
        adopt(path, tmp_path / "data", to=f"sqlite:///{tmp_path / 'store.db'}")


def test_to_itself_needs_in_place(nofx: NofxDatabase, tmp_path: Path) -> None:
    with pytest.raises(AdoptionError, match="--in-place"):
        adopt(nofx.close(), tmp_path / "data", to=f"sqlite:///{nofx.path}")
