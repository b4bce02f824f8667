"""What was pruned does not come back by a file that is there still, or comes late, whichever server looks."""

import asyncio
import errno
import os
import shutil
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import grpc
import pytest

from nofx_grpc.store.decisions import looking, reading, removing
from nofx_grpc.store.decisions import removed as removed_decisions
from nofx_grpc.store.decisions.folders import Folders
from nofx_grpc.store.decisions.logs import Log
from nofx_grpc.store.decisions.reading import Read
from tests.decisions.removals import Two, look_anew, names, removed, three
from tests.decisions.support import Logs, record, until_synced
from tests.support.clock import FakeClock
from tests.support.service import refused


def cannot_delete(patch: pytest.MonkeyPatch, error: int = errno.EROFS) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    patch.setattr(os, "unlink", fails)


async def refused_to_prune(logs: Logs, **limits: Any) -> str:
    refusal = await refused(logs.prune(**limits), grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    return str(refusal.text)


async def test_another_server_that_looks_between_the_commit_and_the_files_takes_up_nothing(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    ids = await three(one)
    stream = other.tail(history_count=10)
    assert await until_synced(stream) == ids
    remove, seen = one.home.remove, list[tuple[list[str], int]]()

    async def late(log: Log, gone: Sequence[str]) -> None:
        await look_anew(one, other)
        seen.append((await other.ids(), await other.counted()))
        await remove(log, gone)

    monkeypatch.setattr(one.home, "remove", late)
    pruned = await one.prune(keep_count=1)
    assert (pruned.deleted_count, pruned.remaining_count) == (2, 1)
    assert seen == [(ids[2:], 1)] and names(one) == ids[2:]
    made = await one.append()
    assert [decision.id for decision in (await stream.read()).decisions] == [made.id], (
        "the tail is told of nothing else"
    )
    stream.cancel()


async def test_a_look_that_read_a_file_before_it_was_pruned_does_not_take_it_up(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    newest = (await three(one))[2]
    await one.prune(keep_count=1)
    await other.ids()
    came, read, loop = "decision_20251118_100000_cycle9", reading.read_entries, asyncio.get_running_loop()
    one.put(f"{came}.json", record(9))

    async def prune() -> None:
        assert came in await one.ids()
        assert (await one.prune(keep_count=1)).deleted_count == 1

    def then_pruned(folders: Folders, *args: Any) -> Read:
        found = read(folders, *args)
        if folders is other.home.folders:
            asyncio.run_coroutine_threadsafe(prune(), loop).result(20)
        return found

    monkeypatch.setattr(looking, "read_entries", then_pruned)
    assert await other.ids() == [newest] and await other.counted() == 1


async def test_what_a_killed_server_left_stays_away_and_goes(
    two: Two, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    ids = await three(one)
    with monkeypatch.context() as patch:
        patch.setattr(Folders, "remove", killed)
        with pytest.raises(grpc.aio.AioRpcError):
            await one.prune(keep_count=1)
    assert names(one) == ids
    await other.home.tidy()
    await look_anew(*two)
    assert await one.ids() == await other.ids() == ids[2:] and names(one) == ids
    clock.advance(hours=1)
    await other.home.tidy()
    assert names(one) == ids[2:] and await removed(one) == []
    await look_anew(*two)
    assert await one.ids() == ids[2:] and await one.counted() == 1


def killed(*_: object) -> None:
    raise RuntimeError("as if the server was killed before it could")


async def test_a_file_that_gets_its_name_after_its_record_was_pruned_stays_away_and_goes(
    two: Two, clock: FakeClock
) -> None:
    """As if one server had come to a stop after its commit, and went on after the other had pruned."""
    one, other = two
    ids = await three(one)
    await other.prune(keep_count=1)
    one.put(f"{ids[0]}.json", record(1, "2025-11-18T11:10:05Z"))
    one.put(f"{ids[1]}.json", b"torn")
    await look_anew(*two)
    assert await one.ids() == await other.ids() == ids[2:] and names(one) == ids
    assert not (await one.page()).HasField("unreadable_files")
    clock.advance(hours=1)
    await one.home.tidy()
    assert names(one) == ids[2:] and await removed(one) == []


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES])
async def test_files_that_cannot_be_deleted_are_told_of_and_tried_again(
    two: Two, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    monkeypatch.setattr(removing, "AT_ONCE", 1)
    one, other = two
    ids = await three(one)
    with monkeypatch.context() as patch:
        cannot_delete(patch, error)
        for logs in (one, other, one):
            assert f"its files stay: the directory of the decision logs cannot be written: {os.strerror(error)}" in (
                await refused_to_prune(logs, keep_count=1)
            )
            assert await logs.ids() == ids[2:]
        clock.advance(days=1)
        for logs in two:
            await logs.home.tidy()
        await look_anew(*two)
    assert names(one) == ids and await other.ids() == ids[2:] and await removed(one) == ids[:2]
    await other.home.tidy()
    assert names(one) == ids[2:] and await removed(one) == []


@pytest.mark.parametrize("at_once", [1, 500])
async def test_one_that_cannot_be_deleted_keeps_nobody_from_the_others(
    two: Two, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(removing, "AT_ONCE", at_once)
    one, other = two
    ids = await three(one)
    first, second = (one.root / "t" / f"{id}.json" for id in ids[:2])
    first.unlink()
    first.mkdir()
    for _ in range(2):
        assert "its files stay" in await refused_to_prune(one, keep_count=1)
        assert first.is_dir() and not second.exists()
        second.write_bytes(b"late")
    clock.advance(hours=1)
    await other.home.tidy()
    assert not second.exists() and await removed(one) == ids[:1]
    first.rmdir()
    await other.home.tidy()
    assert await removed(one) == [] and names(one) == ids[2:]


async def test_a_log_is_somebody_elses_only_once_no_server_has_files_left_to_delete(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    await three(one)
    await one.service.execute("DELETE FROM traders WHERE id = 't'")
    remove = one.home.remove

    async def meanwhile(*args: Any) -> None:
        with monkeypatch.context() as patch:
            cannot_delete(patch)
            await refused_to_prune(other, everything=True)
        await remove(*args)

    monkeypatch.setattr(one.home, "remove", meanwhile)
    await one.prune(everything=True)
    assert names(one) == []
    await one.add_trader("t", "bob")
    made = await other.append("t", "bob")
    one.home._following._seen.clear()
    assert await one.ids("t", "bob") == [made.id]


async def test_what_is_on_a_disk_that_is_not_there_is_not_forgotten(
    files: Logs, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await three(files)
    with monkeypatch.context() as patch:
        cannot_delete(patch)
        await refused_to_prune(files, keep_count=1)
    clock.advance(hours=2)
    away = files.root.rename(files.root.with_name("away"))
    await files.home.tidy()
    away.rename(files.root)
    assert await removed(files) == ids[:2] and names(files) == ids
    await files.home.tidy()
    assert await removed(files) == [] and names(files) == ids[2:]


async def test_a_folder_that_is_gone_has_no_files_left(files: Logs, clock: FakeClock) -> None:
    await three(files)
    await files.prune(keep_count=1)
    shutil.rmtree(files.root / "t")
    clock.advance(hours=1)
    await files.home.tidy()
    assert await removed(files) == []


async def test_what_is_pruned_anew_is_known_anew(files: Logs, clock: FakeClock) -> None:
    """Whoever forgets the old notes leaves those that were made since."""
    ids = await three(files)
    await files.prune(keep_count=1)
    clock.advance(minutes=30)
    await files.service.app.db.write(removed_decisions.note, 1, ids[:1])
    clock.advance(minutes=30)
    await files.home.tidy()
    assert await removed(files) == ids[:1]
    await files.service.app.db.write(removed_decisions.forget_old, 1, ids, clock() - timedelta(minutes=31))
    assert await removed(files) == ids[:1]
