"""`nofx-grpc decisions import`, `reindex` and `adopt`: whose folder is whose, and what is passed over is named."""

import asyncio
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from nofx_grpc.cli import decision_files, decision_files_commands
from nofx_grpc.decisions.names import spelt_folder
from nofx_grpc.settings import Settings
from tests.decisions.support import SAMPLE, Logs, record
from tests.support.clock import FakeClock
from tests.support.processes import environment, run
from tests.support.service import running_service


def put(folder: Path, cycle: int) -> str:
    """A file of NOFX; the id of its record."""
    folder.mkdir(parents=True, exist_ok=True)
    id = f"decision_20251118_1000{cycle:02d}_cycle{cycle}"
    (folder / f"{id}.json").write_text(json.dumps(record(cycle)))
    return id


async def spelt(logs: Logs) -> list[str]:
    """A trader whose folder is spelt, for another's has its place in another case; the ids of its two records."""
    await logs.add_trader("ab", "alice")
    await logs.add_trader("AB", "alice")
    await logs.append("ab")
    made = [(await logs.append("AB")).id for _ in range(2)]
    await logs.home.settle()
    assert sorted(path.stem for path in (logs.root / spelt_folder("AB")).iterdir()) == made
    return made


async def test_records_are_imported_into_the_folder_of_their_trader(
    tmp_path: Path, clock: FakeClock, database_env: dict[str, str]
) -> None:
    theirs = [put(tmp_path / "nofx" / "AB", cycle) for cycle in (41, 42)]
    async with running_service(tmp_path / "data", clock=clock, env=database_env) as service:
        logs = await Logs.of(service)
        own = await spelt(logs)
        env = database_env | {"NOFX_GRPC_DATA_DIR": str(service.data_dir)}
        report = await asyncio.to_thread(decision_files.import_from, Settings.load(None, env), tmp_path / "nofx")
        assert report.counts["copied"] == 2 and report.passed_over == []
        assert not (logs.root / "AB").exists()
        assert sorted(await logs.ids("AB")) == sorted(own + theirs) and await logs.counted("AB") == 4


async def test_a_folder_that_is_not_its_traders_takes_nothing_away(
    tmp_path: Path, clock: FakeClock, database_env: dict[str, str]
) -> None:
    async with running_service(tmp_path / "data", clock=clock, env=database_env) as service:
        logs = await Logs.of(service)
        own = await spelt(logs)
        put(logs.root / "AB", 7)
        env = database_env | {"NOFX_GRPC_DATA_DIR": str(service.data_dir)}
        report = await asyncio.to_thread(decision_files.reindex, Settings.load(None, env))
        assert report.passed_over == ["AB: its trader's records are in another folder"]
        assert sorted(await logs.ids("AB")) == own and await logs.counted("AB") == 2


async def test_reindex_goes_on_where_a_folder_cannot_be_entered(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        logs = await Logs.of(service)
        await logs.append("t")
        await logs.append("u")
        await logs.home.settle()
        (logs.root / "t").rename(tmp_path / "moved")
        (logs.root / "t").symlink_to(tmp_path / "moved")
        put(logs.root / "u", 7)
        report = json.loads(
            (await asyncio.to_thread(run, "decisions", "reindex", "--json", env=environment(service.data_dir))).stdout
        )
        assert (report["records"], len(report["passed_over"])) == (3, 2)
        assert all(line.startswith("t: ") and "symbolic link" in line for line in report["passed_over"])
        assert len(await logs.ids("u")) == 2


def odd_places(root: Path) -> list[str]:
    """A record where it is found, and seven where it is not."""
    put(root / "good", 1)
    put(root / "elsewhere", 2)
    (root / "elsewhere").rename(root.parent / "elsewhere")
    (root / "link").symlink_to(root.parent / "elsewhere")
    for name in ("back\\slash", ".hidden", os.fsdecode(b"\xff")):
        put(root / name, 3)
    put(root, 4)
    (root / "good" / "link.json").symlink_to("/etc/passwd")
    (root / "good" / "torn.json").write_text("{")
    return ["link", "back\\slash", ".hidden", "\\udcff", "decision_20251118_100004_cycle4.json", "good/link.json"]


@pytest.mark.parametrize("home", ["files", "database"])
async def test_what_is_passed_over_is_named(tmp_path: Path, home: str) -> None:
    async with running_service(tmp_path / "data") as service:
        data_dir = service.data_dir
    passed = odd_places(tmp_path / "nofx")
    env = environment(data_dir) | {"NOFX_GRPC_DECISION_LOGS": home}
    report = json.loads(run("decisions", "import", str(tmp_path / "nofx"), "--json", env=env).stdout)
    if home == "files":
        assert (report["copied"], report["not_copied"], report["unreadable_files"]) == (2, len(passed), 1)
    else:
        passed.append("good/torn.json")
        assert (report["imported"], report["not_imported"]) == (1, len(passed))
    assert sorted(line.rpartition(": ")[0].partition(": ")[0] for line in report["passed_over"]) == sorted(passed)
    text = run("decisions", "import", str(tmp_path / "nofx"), env=env).stdout
    assert text.count("passed over: ") == len(passed) and "passed over: link: it is a symbolic link\n" in text


def test_adopt_names_what_it_passes_over(tmp_path: Path) -> None:
    source = tmp_path / "nofx"
    shutil.copytree(SAMPLE.parent, source)
    passed = odd_places(source / "decision_logs")
    arguments = ("adopt", str(source / "config.db"), "--env-file", str(source / "env"), "--json")
    report = json.loads(run(*arguments, env=environment(tmp_path / "data")).stdout)
    count = len(list(SAMPLE.glob("*/*.json"))) + 2
    assert (report["decision_logs"]["copied"], report["decision_logs"]["not_copied"]) == (count, len(passed))
    assert len(report["decision_logs"]["passed_over"]) == len(passed)


def failing(patch: pytest.MonkeyPatch, error: int, cycle: int) -> None:
    """The file of a cycle cannot be opened."""
    real = os.open

    def fails(path: Any, *args: Any, **kwargs: Any) -> int:
        if str(path).endswith(f"cycle{cycle}.json"):
            raise OSError(error, os.strerror(error))
        return real(path, *args, **kwargs)

    patch.setattr(os, "open", fails)


@pytest.mark.parametrize("error", [errno.EIO, errno.EACCES])
@pytest.mark.parametrize("home", ["files", "database"])
async def test_a_file_that_cannot_be_read_keeps_no_other_from_its_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str, error: int
) -> None:
    async with running_service(tmp_path / "data") as service:
        env = {"NOFX_GRPC_DATA_DIR": str(service.data_dir), "NOFX_GRPC_DECISION_LOGS": home}
    settings, source = Settings.load(None, env), tmp_path / "nofx"
    ids = [put(source / "t", cycle) for cycle in (1, 2, 3)]
    came, not_come = ("copied", "not_copied") if home == "files" else ("imported", "not_imported")
    with monkeypatch.context() as patch:
        failing(patch, error, 2)
        report = await asyncio.to_thread(decision_files.import_from, settings, source)
    assert (report.counts[came], report.counts[not_come], report.unread) == (2, 1, 1)
    with pytest.raises(typer.Exit) as end:
        decision_files_commands._report(report, json=True)
    assert end.value.exit_code == 1
    [named] = report.passed_over
    assert named.startswith(f"t/{ids[1]}.json: ") and named.endswith(f"cannot be read: {os.strerror(error)}")
    report = await asyncio.to_thread(decision_files.import_from, settings, source)
    assert (report.counts[came], report.unread) == (1, 0)


@pytest.mark.parametrize("error", [errno.EIO, errno.EACCES, errno.ENOENT])
async def test_a_file_that_cannot_be_read_keeps_no_other_from_the_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    async with running_service(tmp_path / "data") as service:
        settings = Settings.load(None, {"NOFX_GRPC_DATA_DIR": str(service.data_dir)})
    ids = [put(service.data_dir / "decision_logs" / "t", cycle) for cycle in (1, 2, 3)]
    await asyncio.to_thread(decision_files.reindex, settings)
    failing(monkeypatch, error, 2)
    report = await asyncio.to_thread(decision_files.export_to, settings, tmp_path / "out")
    assert (report.counts, report.unread) == ({"exported": 2, "not_exported": 1}, 1)
    assert report.passed_over == [f"t/{ids[1]}.json: it is gone, or cannot be read"]
    assert sorted(path.stem for path in (tmp_path / "out" / "t").iterdir()) == [ids[0], ids[2]]


# The command, where the file of cycle 99 cannot be read.
FAILING = """
import os, sys
from nofx_grpc.cli.main import main
real = os.open
def fails(path, *args, **kwargs):
    if str(path).endswith("cycle99.json"):
        raise OSError(5, os.strerror(5))
    return real(path, *args, **kwargs)
os.open = fails
sys.exit(main())
"""


def test_adopt_says_by_its_exit_code_that_not_all_could_be_read(tmp_path: Path) -> None:
    source = tmp_path / "nofx"
    shutil.copytree(SAMPLE.parent, source)
    put(source / "decision_logs" / "t", 99)
    command = ("adopt", str(source / "config.db"), "--env-file", str(source / "env"), "--json")
    done = subprocess.run(
        [sys.executable, "-c", FAILING, *command],
        env=environment(tmp_path / "data"),
        capture_output=True,
        text=True,
        check=False,
    )
    told = "nofx-grpc: 1 of the files or folders could not be read: run the command again once they can be\n"
    assert (done.returncode, done.stderr) == (1, told)
    copied = json.loads(done.stdout)["decision_logs"]
    assert (copied["copied"], copied["not_copied"]) == (len(list(SAMPLE.glob("*/*.json"))), 1)
