"""The files of what was pruned: they do not come back, and are nobody else's while they are there."""

import asyncio
import errno
import os
from typing import Any

import grpc
import pytest

from nofx_grpc.store.decisions.file_home import FileHome
from nofx_grpc.v1 import decision_logs_pb2 as pb
from tests.decisions.support import Logs, record
from tests.support.service import refused


async def test_the_next_owner_of_an_id_gets_no_file_that_could_not_be_deleted(
    files: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await files.append()
    await files.home.settle()
    await files.service.execute("DELETE FROM traders WHERE id = 't'")

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", read_only)
        await refused(files.prune(everything=True), grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    await files.add_trader("t", "bob")
    await refused(files.get(made.id, "t", "bob"), grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
    await refused(files.append("t", "bob"), grpc.StatusCode.FAILED_PRECONDITION, "FAILED_PRECONDITION")
    assert await files.ids("t", "alice") == [made.id]
    await files.service.execute("DELETE FROM traders WHERE id = 't'")
    assert (await files.prune(everything=True)).deleted_count == 1
    await files.add_trader("t", "bob")
    begun = await files.append("t", "bob")
    assert await files.ids("t", "bob") == [begun.id]


@pytest.mark.parametrize("by", ["publish", "tidy"])
async def test_what_is_pruned_before_it_has_its_name_gets_none(
    files: Logs, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    newest = await files.append()
    link, loop = os.link, asyncio.get_running_loop()

    def pruned_first(*args: Any, **kwargs: Any) -> None:
        asyncio.run_coroutine_threadsafe(files.prune(keep_count=1), loop).result(20)
        link(*args, **kwargs)

    if by == "publish":
        monkeypatch.setattr(os, "link", pruned_first)
        await append_older(files)
    else:
        with monkeypatch.context() as patch:
            patch.setattr(os, "link", full)
            await append_older(files)
        monkeypatch.setattr(os, "link", pruned_first)
        await files.home.tidy()
    assert await files.ids() == [newest.id] and await files.counted() == 1
    assert [path.stem for path in (files.root / "t").iterdir()] == [newest.id]


async def append_older(files: Logs) -> None:
    decision = pb.Decision(success=True)
    decision.time.FromSeconds(1_700_000_000)
    await files.append(time=decision.time)


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_what_is_being_pruned_is_not_looked_through(files: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(4):
        files.put(f"decision_20251118_10000{n}_cycle{n}.json", record(n, f"2025-11-18T10:00:0{n}Z"))
    assert len(await files.ids()) == 4
    remove, readers = FileHome.remove, list[asyncio.Task[list[str]]]()

    async def slowly(self: FileHome, *args: Any) -> None:
        files.put("decision_20251118_100009_cycle9.json", record(9, "2025-11-18T10:00:09Z"))  # so that it has changed
        readers.append(asyncio.create_task(files.ids()))
        await asyncio.wait(readers, timeout=0.3)
        await remove(self, *args)

    monkeypatch.setattr(FileHome, "remove", slowly)
    pruned = await files.prune(keep_count=1)
    assert (pruned.deleted_count, pruned.remaining_count) == (3, 1)
    assert [len(await reader) for reader in readers] == [2]
    serials = await files.service.rows("SELECT serial FROM decisions ORDER BY serial")
    assert [row[0] for row in serials] == [4, 5]
