"""Records that were pruned, and are brought back on purpose."""

import asyncio
import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from nofx_grpc.cli import decision_files
from nofx_grpc.cli.decision_copies import Report
from nofx_grpc.errors import StoreUnavailable
from nofx_grpc.services.decision_pruning import Retention, retain
from nofx_grpc.settings import Settings
from nofx_grpc.store.decisions import deletions, marks
from nofx_grpc.store.decisions import removed as removed_decisions
from nofx_grpc.store.decisions.folders import Folders
from nofx_grpc.store.decisions.logs import Log, find
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


@pytest.mark.parametrize("by", ["prune", "tidy"])
async def test_what_is_imported_while_its_old_files_are_deleted_is_written(
    two: Two, database_env: dict[str, str], clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    one, _ = two
    ids = await three(one)
    source = shutil.copytree(one.root, tmp_path / "source")
    settings = Settings.load(None, {"NOFX_GRPC_DATA_DIR": str(tmp_path / "data")} | database_env)
    remove, wait, waits, imports = Folders.remove, deletions.wait, Event(), list[Future[Report]]()

    def noted(root: Path) -> None:
        waits.set()
        wait(root)

    def meanwhile(self: Folders, folder: str, gone: Sequence[str]) -> None:
        """Somebody imports, and gets as far as can be, before what is to go is deleted."""
        if not imports:
            imports.append(pool.submit(decision_files.import_from, settings, source))
            imports[0].add_done_callback(lambda _: waits.set())
            assert waits.wait(20)
            futures.wait(imports, 0.3)  # for the whole of it, if it does not wait for us
        remove(self, folder, gone)

    if by == "tidy":
        await one.prune(keep_count=1)
        shutil.copytree(source / "t", one.root / "t", dirs_exist_ok=True)
        clock.advance(hours=1)
    monkeypatch.setattr(deletions, "wait", noted)
    monkeypatch.setattr(Folders, "remove", meanwhile)
    with ThreadPoolExecutor() as pool:
        await (one.prune(keep_count=1) if by == "prune" else one.home.tidy())
        report = await asyncio.wrap_future(imports[0])
    assert (report.counts["copied"], report.counts["not_copied"]) == (2, 1) and names(one) == ids
    clock.advance(hours=1)
    for logs in two:
        await logs.home.tidy()
        assert await logs.ids() == ids[::-1]
    assert names(one) == ids


async def test_a_deletion_whose_caller_has_gone_is_waited_for(files: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = await three(files)
    db = files.service.app.db
    await db.write(removed_decisions.note, 1, ids[:1])
    log = (await db.read(find, "t")).value.log
    assert log is not None
    remove, begun, goes_on = Folders.remove, Event(), Event()

    def slow(self: Folders, folder: str, gone: Sequence[str]) -> None:
        begun.set()
        assert goes_on.wait(20)
        remove(self, folder, gone)

    monkeypatch.setattr(Folders, "remove", slow)
    deletion = asyncio.create_task(files.home.remove(log, ids[:1]))
    assert await asyncio.to_thread(begun.wait, 20)
    deletion.cancel()
    back = asyncio.create_task(files.home.let_back("t", [f"{ids[0]}.json"]))
    assert await asyncio.wait([deletion, back], timeout=0.3) == ({deletion}, {back})
    goes_on.set()
    await back
    assert deletion.cancelled() and names(files) == ids[1:]


async def test_what_is_imported_just_before_its_old_files_are_deleted_stays(
    two: Two, database_env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = two
    ids = await three(one)
    source = shutil.copytree(one.root, tmp_path / "source")
    settings = Settings.load(None, {"NOFX_GRPC_DATA_DIR": str(tmp_path / "data")} | database_env)
    remove = one.home.remove

    async def late(log: Log, gone: Sequence[str]) -> None:
        report = await asyncio.to_thread(decision_files.import_from, settings, source)
        assert report.counts["not_copied"] == 3
        await remove(log, gone)

    monkeypatch.setattr(one.home, "remove", late)
    await one.prune(keep_count=1)
    assert names(one) == ids and await one.ids() == ids[::-1]


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


@pytest.mark.parametrize("call", [deletions.begin, deletions.wait])
def test_a_disk_without_locks_refuses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[[Path], object]
) -> None:
    """What it keeps from happening is rare; that nothing can be pruned would fill the disk."""
    said = [errno.ENOLCK, errno.EIO]

    def fails(*_: object) -> None:
        raise OSError(said[0], os.strerror(said.pop(0)))

    monkeypatch.setattr(fcntl, "flock", fails)
    call(tmp_path)  # which is not marked
    marks.make(tmp_path, "x")
    call(tmp_path)
    with pytest.raises(StoreUnavailable, match="cannot be locked: Input/output error"):
        call(tmp_path)


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
