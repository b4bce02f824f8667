"""Records that were pruned, and are brought back on purpose."""

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from nofx_grpc.cli import decision_files
from nofx_grpc.services.decision_pruning import Retention, retain
from nofx_grpc.settings import Settings
from nofx_grpc.store.decisions.folders import Folders
from tests.decisions.removals import Two, look_anew, names, removed, three
from tests.decisions.support import Logs
from tests.support.clock import FakeClock
from tests.support.service import running_service


async def test_what_is_brought_back_while_old_files_are_deleted_stays(
    files: Logs, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await three(files)
    content = (files.root / "t" / f"{ids[0]}.json").read_bytes()
    await files.prune(keep_count=1)
    there, loop = Folders.there, asyncio.get_running_loop()

    def brought_back(self: Folders, folder: str, those: Sequence[str]) -> list[str]:
        back = files.home.let_back("t", [f"{ids[0]}.json"])
        asyncio.run_coroutine_threadsafe(back, loop).result(20)
        files.put(f"{ids[0]}.json", content)
        return there(self, folder, those)

    monkeypatch.setattr(Folders, "there", brought_back)
    clock.advance(hours=1)
    await files.home.tidy()
    assert await files.ids() == [ids[2], ids[0]] and await removed(files) == []


@pytest.mark.parametrize("left", [False, True])
async def test_what_is_imported_comes_back(
    two: Two, database_env: dict[str, str], clock: FakeClock, tmp_path: Path, left: bool
) -> None:
    one, _ = two
    ids = await three(one)
    source = shutil.copytree(one.root, tmp_path / "source")
    await one.prune(keep_count=1)
    if left:
        shutil.copytree(source / "t", one.root / "t", dirs_exist_ok=True)
        await look_anew(*two)
        assert await one.ids() == ids[2:] and names(one) == ids, "what is merely put there does not"
    settings = Settings.load(None, {"NOFX_GRPC_DATA_DIR": str(tmp_path / "data")} | database_env)
    report = await asyncio.to_thread(decision_files.reindex, settings)
    assert report.counts["records"] == 1, "nor by having a look at it"
    report = await asyncio.to_thread(decision_files.import_from, settings, source)
    assert report.counts["records"] == 3 and await removed(one) == []
    clock.advance(days=1)
    for logs in two:
        await logs.home.tidy()
        assert await logs.ids() == ids[::-1]
    assert names(one) == ids


async def test_another_directory_has_its_own_files(
    two: Two, database_env: dict[str, str], clock: FakeClock, tmp_path: Path
) -> None:
    """As after a backup of the directory was unpacked elsewhere."""
    one, _ = two
    ids = await three(one)
    other = shutil.copytree(one.root, tmp_path / "other")
    (other / ".id").unlink()
    await one.prune(keep_count=1)
    env = {"NOFX_GRPC_DATA_DIR": str(tmp_path / "data"), "NOFX_GRPC_DECISION_LOGS_DIR": str(other)}
    report = await asyncio.to_thread(decision_files.reindex, Settings.load(None, env | database_env))
    assert report.counts["records"] == len(ids) and await removed(one) == []


async def test_a_database_that_is_the_home_needs_no_notes(
    tmp_path: Path, clock: FakeClock, database_env: dict[str, str]
) -> None:
    async with running_service(tmp_path / "data", clock=clock, env=database_env) as service:
        logs = await Logs.of(service)
        ids = await three(logs)
        source = shutil.copytree(logs.root, tmp_path / "source")
        await logs.prune(keep_count=1)
        assert await removed(logs) == ids[:2]
    env = database_env | {"NOFX_GRPC_DECISION_LOGS": "database", "NOFX_GRPC_DATA_DIR": str(tmp_path / "data")}
    report = await asyncio.to_thread(decision_files.import_from, Settings.load(None, env), source)
    assert report.counts["imported"] == 3
    async with running_service(tmp_path / "data", clock=clock, env=env) as service:
        logs = Logs(service, service.client("admin"))
        assert await logs.ids() == ids[::-1] and await removed(logs) == []
        await retain(service.app.housekeeping.decisions, Retention(count=1))
        assert await logs.ids() == ids[2:] and await removed(logs) == []
