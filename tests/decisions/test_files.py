"""Files from elsewhere: NOFX's own, and whatever else may lie in a folder."""

import asyncio
import os
from pathlib import Path

import grpc
import pytest

from nofx_grpc.errors import StoreFull
from nofx_grpc.store.decisions.folders import Folders
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


async def test_a_file_that_is_damaged_later_is_left_out(files: Logs) -> None:
    path = files.put(NAME, record())
    assert len(await files.ids()) == 1
    path.write_bytes(b"{")
    assert await files.ids() == []
    await refused(files.get(path.stem), grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


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
    app = files.service.app
    app.housekeeping.decisions.home._seen.clear()  # type: ignore[attr-defined] # as a new process has it
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
    folders = [path.name.casefold() for path in files.root.iterdir()]
    assert len(folders) == len(set(folders)) == 3
    assert len(await files.ids("Trader")) == len(await files.ids("tradeR", "bob")) == 1


async def test_a_link_in_a_traders_place_is_not_followed(files: Logs, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / NAME).write_text('{"timestamp": "2025-11-18T10:00:00Z", "success": true}')
    files.root.mkdir()
    (files.root / "t").symlink_to(outside)
    assert await files.ids() == []
    made = await files.append()
    assert await files.ids() == [made.id]
    assert [path.name for path in outside.iterdir()] == [NAME]


# ---- faults


async def test_a_full_disk_is_a_clear_error_and_leaves_nothing(files: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    await files.append()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.service.app.housekeeping.decisions.home.folders, "_sync", full)  # type: ignore[attr-defined] # of files
        await refused(files.append(), grpc.StatusCode.RESOURCE_EXHAUSTED, StoreFull.reason)
    assert list((files.root / ".pending").iterdir()) == [] and len(await files.ids()) == 1
    assert (await files.append()).cycle_number == 2


async def test_a_record_that_was_committed_and_not_named_is_named_by_its_reader(
    files: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await files.append()
    with monkeypatch.context() as patch:
        patch.setattr(Folders, "publish", _fail)
        await refused(files.append(request_id="r"), grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    assert len(list((files.root / ".pending").iterdir())) == 1
    assert set(await files.ids()) > {first.id}
    again = await files.append(request_id="r")
    assert set(await files.ids()) == {first.id, again.id}
    assert (files.root / "t" / f"{again.id}.json").is_file() and list((files.root / ".pending").iterdir()) == []


@pytest.mark.parametrize("committed", [True, False])
async def test_what_a_killed_process_left_is_seen_to(
    files: Logs, monkeypatch: pytest.MonkeyPatch, *, committed: bool
) -> None:
    if committed:
        with monkeypatch.context() as patch:
            patch.setattr(Folders, "publish", _fail)
            await refused(files.append(), grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    else:
        Folders(files.root).stage(b"{}")
    (left,) = (files.root / ".pending").iterdir()
    home = files.service.app.housekeeping.decisions.home
    assert await home.tidy() == 0, "it may be in use"
    os.utime(left, (1, 1))
    assert await home.tidy() == 1
    assert not left.exists() and len(list(files.root.glob("t/*.json"))) == committed


def _fail(*_: object) -> None:
    from nofx_grpc.errors import StoreUnavailable

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
