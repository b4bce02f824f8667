"""`nofx-grpc decisions reindex`, `import`, `export`, and what `adopt` takes along."""

import asyncio
import json
import os
import pty
import re
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from nofx_grpc.cli import decision_files
from nofx_grpc.settings import Settings
from tests.decisions.performance import statistics
from tests.decisions.support import SAMPLE, Logs, record
from tests.support.clock import FakeClock
from tests.support.processes import COMMAND, environment, run
from tests.support.service import running_service

COUNT = len(list(SAMPLE.glob("*/*.json")))


def settings_of(data_dir: Path, **env: str) -> Settings:
    return Settings.load(None, {"NOFX_GRPC_DATA_DIR": str(data_dir)} | env)


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.glob("*/*.json")}


@pytest.fixture
async def data_dir(tmp_path: Path) -> Path:
    """A data directory whose store has seen a start."""
    async with running_service(tmp_path / "data") as service:
        return service.data_dir


def test_what_went_in_comes_out_byte_for_byte(data_dir: Path, tmp_path: Path) -> None:
    into = settings_of(data_dir, NOFX_GRPC_DECISION_LOGS="database")
    broken = tmp_path / "in"
    shutil.copytree(SAMPLE, broken)
    (broken / "t").mkdir()
    (broken / "t" / "x.json").write_text("{")
    done = decision_files.import_from(into, broken)
    assert done.counts == {"imported": COUNT, "not_imported": 1} and "t/x.json: it is cut off" in done.passed_over[0]
    assert decision_files.import_from(into, broken).counts["imported"] == 0
    done = decision_files.export_to(into, tmp_path / "out")
    assert done.counts == {"exported": COUNT, "not_exported": 0}
    assert contents(tmp_path / "out") == contents(SAMPLE)
    assert decision_files.export_to(into, tmp_path / "out").counts["exported"] == 0


def test_import_to_files_copies_and_indexes(data_dir: Path) -> None:
    report = decision_files.import_from(settings_of(data_dir), SAMPLE)
    counts = {"copied": COUNT, "not_copied": 0, "traders": 2, "records": COUNT, "unreadable_files": 0}
    assert (report.counts, report.passed_over, report.unread) == (counts, [], 0)
    assert contents(data_dir / "decision_logs") == contents(SAMPLE)


def test_reindex_sees_what_changed(data_dir: Path) -> None:
    settings = settings_of(data_dir)
    decision_files.import_from(settings, SAMPLE)
    root = data_dir / "decision_logs"
    first, second, third, *_ = sorted(next(root.glob("binance*")).iterdir())
    first.write_text(json.dumps(record(success=False, more="x" * 99)))
    second.unlink()
    third.write_text("{")
    (root / "new").mkdir()
    (root / "new" / "decision_20251118_100000_cycle1.json").write_text(json.dumps(record()))
    report = decision_files.reindex(settings)
    assert report.counts == {"traders": 3, "records": COUNT - 2 + 1, "unreadable_files": 1}
    shutil.rmtree(root / "new")
    assert decision_files.reindex(settings).counts["records"] == COUNT - 2


async def test_reindex_sees_an_edit_that_leaves_the_size(
    tmp_path: Path, clock: FakeClock, database_env: dict[str, str]
) -> None:
    """Of a record that was written here, before any reindex and after one; what did not change does not come anew."""
    async with running_service(tmp_path / "data", clock=clock, env=database_env) as service:
        logs = await Logs.of(service)
        made = [(await logs.append()).id for _ in range(3)]
        await logs.home.settle()
        settings = settings_of(service.data_dir, **database_env)
        for failed, id in enumerate(made[:2], 1):
            path = logs.root / "t" / f"{id}.json"
            path.write_text(path.read_text().replace('"success": true', '"success":false'))
            assert (await asyncio.to_thread(decision_files.reindex, settings)).counts["records"] == 3
            assert (await statistics(logs)).failed_cycles == failed
            serials = "SELECT d.serial FROM decisions d JOIN decision_logs l ON l.id = d.log_id WHERE l.trader_id = 't'"
            assert sorted(row[0] for row in await service.rows(serials))[-1] == 3 + failed
        times = await service.rows("SELECT count(*) FROM decisions WHERE mtime_ns = 0")
        assert times[0][0] == 0


async def test_reindex_beside_a_server(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        logs = await Logs.of(service)
        made = [await logs.append() for _ in range(3)]
        process = await asyncio.to_thread(run, "decisions", "reindex", "--json", env=environment(service.data_dir))
        report = {"traders": 1, "records": 3, "unreadable_files": 0, "passed_over": []}
        assert json.loads(process.stdout) == report
        assert await logs.ids() == [decision.id for decision in reversed(made)]
        assert (await logs.append()).cycle_number == 4


def test_a_directory_that_is_not_there(data_dir: Path, tmp_path: Path) -> None:
    env = environment(data_dir)
    shutil.rmtree(data_dir / "decision_logs")
    for arguments in (["reindex"], ["import", str(tmp_path / "nothing")]):
        failed = run("decisions", *arguments, env=env)
        assert failed.returncode == 3 and "director" in failed.stderr
    failed = run("decisions", "reindex", env=env | {"NOFX_GRPC_DECISION_LOGS": "database"})
    assert failed.returncode == 3 and "database" in failed.stderr


def test_adopt_takes_the_records_along(tmp_path: Path) -> None:
    source = tmp_path / "nofx"
    shutil.copytree(SAMPLE.parent, source)
    arguments = ("adopt", str(source / "config.db"), "--env-file", str(source / "env"), "--json")
    report = json.loads(run(*arguments, env=environment(tmp_path / "data")).stdout)
    assert report["decision_logs"] == {"copied": COUNT, "not_copied": 0, "passed_over": []}
    assert contents(tmp_path / "data" / "decision_logs") == contents(source / "decision_logs") == contents(SAMPLE)


def test_reindex_tells_at_a_terminal_how_far_it_is(data_dir: Path) -> None:
    shutil.copytree(SAMPLE, data_dir / "decision_logs", dirs_exist_ok=True)
    seen = at_terminal("decisions", "reindex", env=environment(data_dir, TERM="xterm", COLUMNS="100"))
    assert "decision records" in seen and f"{COUNT}/{COUNT}" in seen
    assert re.search(r"0:00:\d\d", seen), "how long it has taken"


def test_reindex_into_a_pipe_prints_its_report_only(data_dir: Path) -> None:
    shutil.copytree(SAMPLE, data_dir / "decision_logs", dirs_exist_ok=True)
    done = run("decisions", "reindex", "--json", env=environment(data_dir))
    traders = len(list(SAMPLE.iterdir()))
    assert json.loads(done.stdout).items() >= {"traders": traders, "records": COUNT, "unreadable_files": 0}.items()
    assert (done.returncode, done.stderr) == (0, "")


def at_terminal(*arguments: str, env: Mapping[str, str]) -> str:
    """What a person sees of a command; it must succeed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([COMMAND, *arguments], env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    with suppress(OSError), os.fdopen(ours, "rb", buffering=0) as terminal:  # an error is its end
        while data := terminal.read(65_536):
            seen += data
    assert process.wait(30) == 0, seen.decode()
    return seen.decode()
