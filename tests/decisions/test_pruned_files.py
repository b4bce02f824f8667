"""The files of what was pruned: they do not come back, and are nobody else's while they are there."""

import asyncio
import errno
import os
from typing import Any

import grpc
import pytest

from nofx_grpc.store.decisions import pruning
from nofx_grpc.v1 import decision_logs_pb2 as pb
from tests.decisions.removals import Two
from tests.decisions.support import Logs
from tests.support.clock import FakeClock
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
    assert await files.ids("t", "alice") == []
    await files.service.execute("DELETE FROM traders WHERE id = 't'")
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", read_only)
        refusal = await refused(files.prune(everything=True), grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
        assert "its files stay: the directory of the decision logs cannot be written: Read-only" in str(refusal.text)
    await files.prune(everything=True)
    assert list((files.root / "t").iterdir()) == []
    await files.add_trader("t", "bob")
    begun = await files.append("t", "bob")
    assert await files.ids("t", "bob") == [begun.id]


async def test_everything_is_broken_files_too(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    files, _ = two
    monkeypatch.setattr(pruning, "AT_ONCE", 2)
    await files.append()
    await files.home.settle()
    broken = [files.put(f"decision_20251118_10000{n}_cycle{n}.json", b'{"timestamp": ') for n in range(4)]
    others = {files.put("notes.txt", b"somebody's"), files.put(".x.json", b"no name of a record")}
    assert (await files.page()).unreadable_files.count == 6
    await files.prune(keep_count=1)
    assert all(path.exists() for path in broken), "a limit is one of records"
    await files.service.execute("DELETE FROM traders WHERE id = 't'")
    assert (await files.prune(everything=True)).deleted_count == 1
    assert set((files.root / "t").iterdir()) == others
    await files.add_trader("t", "bob")
    for logs in two:
        assert (await logs.page("t", "bob")).unreadable_files.count == 2


@pytest.mark.parametrize("by", ["publish", "tidy"])
async def test_what_is_pruned_before_it_has_its_name_stays_away_and_goes(
    files: Logs, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    newest = await files.append()
    link, loop = os.link, asyncio.get_running_loop()

    def pruned_first(*args: Any, **kwargs: Any) -> None:
        asyncio.run_coroutine_threadsafe(files.prune(keep_count=1), loop).result(20)
        link(*args, **kwargs)

    if by == "publish":
        monkeypatch.setattr(os, "link", pruned_first)
        await append_older(files)
        await files.home.settle()
    else:
        with monkeypatch.context() as patch:
            patch.setattr(os, "link", full)
            await append_older(files)
        monkeypatch.setattr(os, "link", pruned_first)
        await files.home.tidy()
    files.home._following._seen.clear()
    assert await files.ids() == [newest.id] and await files.counted() == 1
    clock.advance(hours=1)
    await files.home.tidy()
    assert [path.stem for path in (files.root / "t").iterdir()] == [newest.id]


async def append_older(files: Logs) -> None:
    decision = pb.Decision(success=True)
    decision.time.FromSeconds(1_700_000_000)
    await files.append(time=decision.time)


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
