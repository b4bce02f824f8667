"""Files from elsewhere: NOFX's own, and whatever else may lie in a folder."""

import asyncio
import os
import resource
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from nofx_grpc.errors import StoreFull, StoreUnavailable
from nofx_grpc.store.decisions.folders import Folders
from nofx_grpc.store.decisions.logs import find
from nofx_grpc.v1 import decision_logs_pb2 as pb
from tests.decisions.support import SAMPLE, Logs, record, until_synced
from tests.support.service import refused

NAME = "decision_20251118_100000_cycle1.json"
BROKEN = {
    "empty.json": (b"", "empty"),
    "cut.json": (b'{"timestamp": "2025-11-18T10:00:00Z", "cyc', "cut off"),
    "list.json": (b"[]", "no object"),
    "other.json": (b'{"name": "x"}', "no timestamp"),
    "time.json": (b'{"timestamp": "2025-11-18T10:00:00Z"}', "no field of a record"),
    "zone.json": (b'{"timestamp": "2025-11-18 10:00", "success": true}', "timestamp is not a time"),
    "type.json": (b'{"timestamp": "2025-11-18T10:00:00Z", "cycle_number": "1"}', "cycle_number is not"),
    "big.json": (b'{"timestamp": "2025-11-18T10:00:00Z", "cycle_number": 9223372036854775808}', "64 bits"),
    "nan.json": (b'{"timestamp": "2025-11-18T10:00:00Z", "x": NaN}', "no JSON"),
    "latin.json": (b'{"timestamp": "\xe9"}', "no UTF-8"),
    "deep.json": (b"[" * 200_000, "nested"),
    "half.json": (b'{"x": ' + b"[" * 500 + rb'"\ud800"' + b"]" * 500 + b"}", "nested"),
    "notes.txt": (b"hello", "name"),
    ".DS_Store": (b"\0\0", "name"),
}


async def test_the_sample_is_read_as_it_is(files: Logs) -> None:
    for folder in SAMPLE.iterdir():
        await files.add_trader(folder.name, "alice")
        for path in folder.iterdir():
            files.put(path.name, path.read_bytes(), folder.name)
        page = await files.page(folder.name, page_size=1000, view=pb.DECISION_VIEW_RAW)
        assert {d.id: d.raw_json for d in page.decisions} == {p.stem: p.read_bytes() for p in folder.iterdir()}
        times = [(d.time.seconds, d.time.nanos) for d in page.decisions]
        assert times == sorted(times, reverse=True) and not page.HasField("unreadable_files")


async def test_what_is_no_record_is_told_of_and_not_counted(files: Logs) -> None:
    files.put(NAME, record())
    for name, (content, _) in BROKEN.items():
        files.put(name, content)
    (files.root / "t" / "link.json").symlink_to("/etc/passwd")
    os.mkfifo(files.root / "t" / "pipe.json")
    files.put(NAME, record(), "t/inner")
    page = await files.page()
    assert [decision.id for decision in page.decisions] == [NAME.removesuffix(".json")] and await files.counted() == 1
    told = {file.name: file.reason for file in page.unreadable_files.files}
    assert page.unreadable_files.count == len(told) == len(BROKEN) + 2
    assert {name: reason for name, (_, reason) in BROKEN.items() if reason not in told[name]} == {}
    assert "symbolic link" in told["link.json"] and "no file" in told["pipe.json"]


async def test_a_file_that_is_mended_is_read(files: Logs) -> None:
    path = files.put(NAME, b'{"timestamp"')
    assert (await files.page()).unreadable_files.count == 1
    path.write_text(path.read_text())  # as it was
    with path.open("w") as file:
        file.write('{"timestamp": "2025-11-18T10:00:00Z", "success": true}')
    page = await files.page()
    assert len(page.decisions) == 1 and not page.HasField("unreadable_files")


async def test_files_that_go_are_gone(files: Logs) -> None:
    path = files.put(NAME, record())
    broken = files.put("x.json", b"")
    assert len(await files.ids()) == 1
    path.unlink()
    broken.unlink()
    page = await files.page()
    assert not page.decisions and not page.HasField("unreadable_files") and await files.counted() == 0


async def test_folders_whose_trader_never_was_are_read_by_who_may_read_all(files: Logs) -> None:
    files.put(NAME, record(), "stranger")
    assert len(await files.ids("stranger", "")) == 1
    await refused(files.page("stranger", "alice"), grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
    client = files.service.client(token=await files.service.make_token("viewer", "alice"))
    call = client.decision_logs.ListDecisions(pb.ListDecisionsRequest(trader_id="stranger"))
    await refused(call, grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


async def test_a_restart_goes_on(files: Logs) -> None:
    first = await files.append()
    files.put("decision_20251118_100000_cycle9.json", record(cycle=9))
    files.home._following._seen.clear()  # as a new process has it
    assert (await files.append()).cycle_number == 10
    assert first.id in await files.ids()


# ---- names


@pytest.mark.parametrize(
    "trader",
    [
        *("a/b", "a b/c d", "../t", "/etc", "a/../../x", "a//b", ".", "..", ".pending", "=x", "x.json", "a\\b"),
        *("é" * 250, "T"),
    ],
)
async def test_no_id_leads_elsewhere(files: Logs, trader: str) -> None:
    await files.add_trader(trader, "alice")
    made = await files.append(trader)
    assert await files.ids(trader) == [made.id]
    (path,) = files.root.parent.parent.rglob(f"{made.id}*")
    assert path.is_file() and files.root in path.parents and ".pending" not in path.parts


async def test_ids_that_differ_in_case_have_folders_that_do_not(files: Logs) -> None:
    await files.add_trader("Trader", "alice")
    await files.add_trader("tradeR", "bob")
    await files.append("Trader")
    await files.append("tradeR", "bob")
    assert (files.root / "Trader").is_dir()
    folders = [path.name.casefold() for path in files.root.iterdir() if path.is_dir()]
    assert len(folders) == len(set(folders)) == 3
    assert len(await files.ids("Trader")) == len(await files.ids("tradeR", "bob")) == 1


async def test_a_link_in_a_traders_place_is_not_followed(files: Logs, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / NAME).write_text('{"timestamp": "2025-11-18T10:00:00Z", "success": true}')
    (files.root / "t").symlink_to(outside)
    assert await files.ids() == []
    made = await files.append()
    assert await files.ids() == [made.id]
    assert [path.name for path in outside.iterdir()] == [NAME]


# ---- faults


async def test_a_full_disk_is_a_clear_error_and_leaves_nothing(files: Logs) -> None:
    await files.append()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        call = files.append(system_prompt="x" * 300_000)
        await refused(call, grpc.StatusCode.RESOURCE_EXHAUSTED, StoreFull.reason)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((files.root / ".pending").iterdir()) == [] and len(await files.ids()) == 1
    assert (await files.append()).cycle_number == 2


@pytest.mark.parametrize("fails", ["make_durable", "publish"])
async def test_a_record_that_was_committed_gets_its_file_whatever_happens(
    files: Logs, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    first = await files.append()
    with monkeypatch.context() as patch:
        patch.setattr(Folders, fails, _fail)
        made = await files.append(request_id="r")
    again = await files.append(request_id="r")
    path = files.root / "t" / f"{again.id}.json"
    assert again == made
    assert set(await files.ids()) == {first.id, again.id} and not path.exists()
    raw = (await files.get(again.id, view=pb.DECISION_VIEW_RAW)).raw_json
    await files.home.tidy()
    assert path.read_bytes() == raw and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (await files.get(again.id)).id == again.id and await files.counted() == 2


async def test_a_record_that_waits_for_its_file_is_not_taken_for_gone(
    files: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    await files.append()
    with monkeypatch.context() as patch:
        patch.setattr(Folders, "publish", _fail)
        await files.append()
    files.put(NAME, record())  # so that the folder is looked through
    assert len(await files.ids()) == await files.counted() == 3


async def test_the_database_keeps_a_body_until_its_name_is_durable(
    files: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    settle = Folders.settle

    def settled(folders: Folders, folder: str) -> None:
        synced.append(folder)
        settle(folders, folder)

    monkeypatch.setattr(Folders, "settle", settled)
    made = [await files.append(name) for name in "ttu"]
    assert len(await files.service.rows("SELECT 1 FROM decision_bodies")) == 3 and synced == []
    await files.home.settle()
    assert await files.service.rows("SELECT 1 FROM decision_bodies") == [] and sorted(synced) == ["t", "u"]
    assert await files.ids() == [made[1].id, made[0].id]


async def test_a_name_that_power_loss_takes_away_comes_back(files: Logs) -> None:
    """The commit was durable, and the file's name was not yet."""
    made = await files.append(request_id="r")
    path = files.root / "t" / f"{made.id}.json"
    written = path.read_bytes()
    path.unlink()
    files.home._following._seen.clear()  # as a new process has it
    assert await files.append(request_id="r") == made and await files.ids() == [made.id]
    await files.home.tidy()
    assert path.read_bytes() == written and await files.ids() == [made.id]


async def test_what_was_changed_before_a_restart_is_left_as_it_is(files: Logs) -> None:
    made = await files.append()
    path = files.root / "t" / f"{made.id}.json"
    path.write_text('{"timestamp": "2025-11-18T10:00:00Z", "success": true}')
    await files.home.tidy()
    assert len(path.read_bytes()) < 100 and (await files.get(made.id)).time == made.time, "both are kept"


async def test_what_was_never_committed_goes_after_an_hour(files: Logs) -> None:
    Folders(files.root).stage(b"{}")
    (left,) = (files.root / ".pending").iterdir()
    assert await files.home.tidy() == 0 and left.exists(), "it may be in use"
    os.utime(left, (1, 1))
    assert await files.home.tidy() == 1 and not left.exists()


def _fail(*_: object) -> None:
    raise StoreUnavailable("as if the process had died")


async def test_many_readers_of_a_folder_that_grows(files: Logs) -> None:
    stream = files.tail()
    await until_synced(stream)
    for n in range(1, 40):
        files.put(f"decision_20251118_1000{n:02d}_cycle{n}.json", record(cycle=n))
        if n % 10 == 0:
            counts = await asyncio.gather(*(files.ids() for _ in range(5)))
            assert {len(ids) for ids in counts} == {n}
    stream.cancel()


async def test_a_log_that_others_have_just_made_is_found(files: Logs) -> None:
    files.put(NAME, record())
    before = (await files.service.app.db.read(find, "t")).value
    assert before.log is None
    assert len(await files.ids()) == 1
    assert (await files.home.refresh("t", before)).log is not None


async def test_a_folder_is_listed_off_the_event_loop(files: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    listed_by: set[int] = set()
    names = Folders.names

    def noted(self: Folders, folder: str) -> Iterator[str]:
        for name in names(self, folder):
            listed_by.add(threading.get_ident())
            yield name

    monkeypatch.setattr(Folders, "names", noted)
    files.put(NAME, record(1, "2025-11-18T10:00:00Z"))
    await files.page()
    assert listed_by and threading.get_ident() not in listed_by
