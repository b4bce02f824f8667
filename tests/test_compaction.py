"""Compaction: changes are kept for their time, and as many as the settings say; no stream loses what it needs."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from nofx_grpc import housekeeping
from nofx_grpc.services import feed, watch_snapshot
from nofx_grpc.store import changes
from tests.support.clock import FakeClock
from tests.support.service import RunningService, running_service
from tests.support.watching import Watching, create_exchange, ended


async def logged(service: RunningService) -> list[str]:
    return [id for (id,) in await service.rows("SELECT id FROM change_log ORDER BY revision, ordinal")]


async def oldest(service: RunningService) -> int:
    return int((await service.rows("SELECT compacted_revision FROM store_state"))[0][0])


async def test_changes_are_kept_for_their_time(service: RunningService, clock: FakeClock) -> None:
    early = await create_exchange(service.client(), "early")
    clock.advance(hours=12)
    late = await create_exchange(service.client(), "late")
    clock.advance(hours=12)
    await service.app.housekeeping.sweep()
    assert await logged(service) == ["early", "late"]
    clock.advance(seconds=1)
    await service.app.housekeeping.sweep()
    assert (await logged(service), await oldest(service)) == (["late"], early.revision)
    clock.advance(hours=12)
    await service.app.housekeeping.sweep()
    assert (await logged(service), await oldest(service)) == ([], late.revision)
    watching = Watching(service.client(), start_revision=late.revision, history_id=service.app.db.history_id)
    assert await watching.synced() == late.revision


async def test_no_more_changes_are_kept_than_the_settings_say(tmp_path: Path) -> None:
    async with running_service(tmp_path, env={"NOFX_GRPC_WATCH_LOG_CHANGES": "3"}) as service:
        made = [await create_exchange(service.client(), f"x{number}") for number in range(5)]
        await service.app.housekeeping.sweep()
        assert (await logged(service), await oldest(service)) == (["x2", "x3", "x4"], made[1].revision)


async def test_it_goes_in_batches_until_all_is_gone(
    service: RunningService, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "AT_ONCE", 2)
    made = [await create_exchange(service.client(), f"x{number}") for number in range(5)]
    clock.advance(hours=25)
    await service.app.housekeeping.sweep()
    assert (await logged(service), await oldest(service)) == ([], made[-1].revision)


async def test_a_commit_that_goes_in_parts_is_refused_before_its_first_part_goes(
    service: RunningService, clock: FakeClock
) -> None:
    client = service.client()
    await service.add_users("ada")
    for number in range(4):
        await create_exchange(client, f"x{number}", "ada")
    before = await service.revision()
    await service.execute("UPDATE change_log SET revision = ?, ordinal = revision", before)
    assert (await service.app.db.write(changes.compact, before, 3)).value == 3
    assert await logged(service) == ["x3"]
    call = Watching(client, start_revision=before - 1, history_id=service.app.db.history_id).call
    await ended(call, grpc.StatusCode.OUT_OF_RANGE, "REVISION_COMPACTED")
    # What is left of it goes, although it is not old and not too many.
    last = await service.app.db.scan(changes.removable, clock() - timedelta(days=1), 100, 100)
    assert last.value == before


async def test_it_changes_no_revision(service: RunningService, clock: FakeClock) -> None:
    await create_exchange(service.client(), "okx")
    before = await service.revision()
    clock.advance(hours=25)
    await service.app.housekeeping.sweep()
    assert await service.revision() == before and await logged(service) == []


async def test_a_snapshot_that_takes_too_long_holds_up_compaction_no_more(
    service: RunningService, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "HOLD_SECONDS", 0.0)
    monkeypatch.setattr(watch_snapshot, "PAGE_ROWS", 1)
    client = service.client()
    first = await create_exchange(client, "first")
    scan, pages = service.app.db.scan, 0

    async def slow(fn: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal pages
        if fn is watch_snapshot._page and (pages := pages + 1) == 2:  # the client has read the first page at last
            await create_exchange(client, "second")
            clock.advance(hours=25)
            await service.app.housekeeping.compact()
        return await scan(fn, *args, **kwargs)

    monkeypatch.setattr(service.app.db, "scan", slow)
    call = Watching(client, ["EXCHANGE"], send_initial_state=True).call
    refusal = await ended(call, grpc.StatusCode.OUT_OF_RANGE, "REVISION_COMPACTED")
    assert refusal.metadata["wanted"] == str(first.revision)


async def test_what_a_snapshot_in_progress_needs_stays(service: RunningService, clock: FakeClock) -> None:
    client = service.client()
    first = await create_exchange(client, "first")
    with service.app.feed.holding(first.revision):
        second = await create_exchange(client, "second")
        clock.advance(hours=25)
        await service.app.housekeeping.sweep()
        assert (await logged(service), await oldest(service)) == (["second"], first.revision)
    await service.app.housekeeping.sweep()
    assert (await logged(service), await oldest(service)) == ([], second.revision)
