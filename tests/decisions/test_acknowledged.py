"""What was acknowledged stays and is read, whatever happens between its commit and its file's name."""

import asyncio
import errno
import os
import threading
from collections.abc import Sequence
from typing import Any

import grpc
import pytest

from nofx_grpc.store.decisions import following
from nofx_grpc.store.decisions.entries import Entry
from nofx_grpc.store.decisions.file_home import FileHome
from nofx_grpc.store.decisions.folders import Folders
from nofx_grpc.v1 import decision_logs_pb2 as pb
from tests.decisions.support import Logs, record
from tests.support.service import refused

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"


@pytest.mark.parametrize("other", [record(cycle=2, system_prompt="another's"), b"torn"])
async def test_a_file_that_took_the_name_does_not_take_the_record(
    files: Logs, monkeypatch: pytest.MonkeyPatch, other: dict[str, Any] | bytes
) -> None:
    publish = Folders.publish

    def just_before(folders: Folders, folder: str, token: str, name: str) -> bool:
        files.put(name, other, folder)
        return publish(folders, folder, token, name)

    with monkeypatch.context() as patch:
        patch.setattr(Folders, "publish", just_before)
        made = await files.append(system_prompt="ours")
    path = files.root / "t" / f"{made.id}.json"
    taken = path.read_bytes()
    await files.home.settle()
    await files.home.tidy()
    await files.home.reindex("t", lambda files: None)
    for _ in range(2):
        assert (await files.get(made.id, view=pb.DECISION_VIEW_FULL)).system_prompt == "ours"
        assert await files.ids() == [made.id] and path.read_bytes() == taken
    path.rename(path.with_name("moved.json"))
    await files.home.tidy()
    assert b"ours" in path.read_bytes() and await files.service.rows("SELECT 1 FROM decision_bodies") == []


async def test_a_full_directory_after_the_commit_is_no_refusal(files: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    await files.append()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", full)
        made = await files.append()
    assert len(await files.ids()) == 2 and not (files.root / "t" / f"{made.id}.json").exists()
    await files.home.tidy()
    assert (files.root / "t" / f"{made.id}.json").exists() and await files.counted() == 2


async def test_nothing_is_made_where_the_directory_should_be_mounted(
    files: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [await files.append()]
    away, make_durable = files.root.with_name("away"), Folders.make_durable

    def unmounted(folders: Folders, token: str) -> None:
        files.root.rename(away)
        files.root.mkdir()
        make_durable(folders, token)

    with monkeypatch.context() as patch:
        patch.setattr(Folders, "make_durable", unmounted)
        made.append(await files.append())  # it is in the database
    assert list(files.root.iterdir()) == []
    (files.root / ".pending").mkdir()
    for trader in "tu":
        await refused(files.append(trader), *UNAVAILABLE)
    with pytest.raises(Exception, match="cannot be written"):
        files.home.folders.put("t", "x.json", b"{}")
    await files.home.tidy()
    assert list(files.root.rglob("*")) == [files.root / ".pending"]
    assert len(await files.service.rows("SELECT 1 FROM decision_bodies")) == 2
    (files.root / ".pending").rmdir()
    files.root.rmdir()
    away.rename(files.root)
    await files.home.tidy()
    assert await files.ids() == [answer.id for answer in reversed(made)]
    assert len(list((files.root / "t").iterdir())) == 2


@pytest.mark.parametrize("error", [errno.EMFILE, errno.EIO])
async def test_a_file_that_cannot_be_opened_for_now_is_a_record_still(
    files: Logs, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    made = await files.append()
    await files.home.settle()
    came = files.put("decision_20251118_100000_cycle9.json", record(cycle=9))
    real = os.open

    def fails(path: Any, *args: Any, **kwargs: Any) -> int:
        if str(path) in {f"{made.id}.json", came.name}:
            raise OSError(error, os.strerror(error))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(following, "_RETRY_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fails)
        refusal = await refused(files.get(made.id), *UNAVAILABLE)
        assert "cannot be read" in str(refusal.text)
        await files.home.reindex("t", lambda files: None)
        assert await files.counted() == 1
    assert len(await files.ids()) == 2 and (await files.get(made.id)).id == made.id
    assert not (await files.page()).HasField("unreadable_files")


async def test_a_file_that_cannot_be_read_for_now_is_not_tried_at_each_call(
    files: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    came = files.put("decision_20251118_100000_cycle9.json", record(cycle=9))
    real, tries = os.open, 0

    def fails(path: Any, *args: Any, **kwargs: Any) -> int:
        nonlocal tries
        if str(path) == came.name:
            tries += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", fails)
    monkeypatch.setattr(following, "_RETRY_SECONDS", 1000.0)
    for _ in range(3):
        assert await files.ids() == [] and tries == 1
    other = files.put("decision_20251118_100001_cycle10.json", record(cycle=10))
    assert await files.ids() == [other.stem] and tries == 2


async def test_a_record_that_gets_its_name_while_it_is_looked_for_is_found(
    files: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await files.append()
    assert await files.ids() == [first.id]  # so that the folder is not looked through
    publish, read_all = FileHome.publish, FileHome._read_all
    missed, named = threading.Event(), threading.Event()

    def slowly(self: FileHome, folder: str, wanted: Sequence[Entry]) -> Any:
        found = read_all(self, folder, wanted)
        if found[1] and not missed.is_set():
            missed.set()
            assert named.wait(20)
        return found

    readers: list[asyncio.Task[list[str]]] = []

    async def late(self: FileHome, *args: Any) -> None:
        readers.append(asyncio.create_task(files.ids()))
        assert await asyncio.to_thread(missed.wait, 20)
        await publish(self, *args)
        await self.settle()
        named.set()

    monkeypatch.setattr(FileHome, "_read_all", slowly)
    monkeypatch.setattr(FileHome, "publish", late)
    made = await files.append()
    assert [await reader for reader in readers] == [[made.id, first.id]]
