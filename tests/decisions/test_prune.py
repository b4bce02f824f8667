"""PruneDecisions and the retention of the settings: the oldest go, the newest never."""

import asyncio
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from nofx_grpc.errors import StoreUnavailable
from nofx_grpc.services.decision_pruning import Retention, retain
from nofx_grpc.store.decisions import pruning
from nofx_grpc.store.decisions.logs import Log
from nofx_grpc.v1 import decision_logs_pb2 as pb
from tests.decisions.support import Logs
from tests.support.service import refused

START = 1_763_464_205
INVALID = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")


async def six(logs: Logs, trader: str = "t", user: str = "alice") -> list[pb.Decision]:
    return [await logs.append(trader, user, time=Timestamp(seconds=START + n)) for n in range(6)]


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({"keep_count": 2}, 2),
        ({"keep_count": 100}, 6),
        ({"before_time": Timestamp(seconds=START + 4)}, 2),
        ({"before_time": Timestamp(seconds=START + 400)}, 1),
        ({"keep_bytes": 1}, 1),
        ({"keep_count": 5, "before_time": Timestamp(seconds=START + 3)}, 3),
    ],
)
async def test_the_oldest_go(logs: Logs, limits: dict[str, Any], left: int) -> None:
    made = await six(logs)
    told = await logs.prune(dry_run=True, **limits)
    assert len(await logs.ids()) == 6
    pruned = await logs.prune(**limits)
    assert pruned == told and (pruned.deleted_count, pruned.remaining_count) == (6 - left, left)
    assert await logs.ids() == [decision.id for decision in made[::-1][:left]]
    assert await logs.counted() == left
    assert pruned.remaining_bytes == sum(decision.size_bytes for decision in made[6 - left :])


async def test_numbers_are_not_used_again(logs: Logs) -> None:
    await six(logs)
    await logs.prune(keep_count=1)
    assert (await logs.append()).cycle_number == 7


async def test_by_bytes(logs: Logs) -> None:
    made = await six(logs)
    await logs.prune(keep_bytes=made[0].size_bytes * 3)
    assert len(await logs.ids()) == 3


async def test_everything_goes_only_of_a_trader_that_is_gone(logs: Logs) -> None:
    await six(logs)
    await refused(logs.prune(everything=True), grpc.StatusCode.FAILED_PRECONDITION, "FAILED_PRECONDITION")
    await logs.service.execute("DELETE FROM traders WHERE id = 't'")
    assert (await logs.prune(everything=True)).deleted_count == 6
    assert await logs.ids("t", "") == []


async def test_a_plan_keeps_no_ids(logs: Logs) -> None:
    await six(logs)
    plan = (await logs.service.app.db.read(pruning.plan, "t", pruning.Limits(count=1))).value
    assert (plan.deleted_count, plan.remaining_count, plan.ids) == (5, 1, [])


async def test_refusals(files: Logs) -> None:
    await refused(files.prune(), *INVALID)
    await refused(files.prune(everything=True, keep_count=1), *INVALID)
    await refused(files.prune(keep_count=0), *INVALID)
    await refused(files.prune("t", "bob", keep_count=1), grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
    for role in ("engine", "gateway", "viewer"):
        call = files.service.client(role).decision_logs.PruneDecisions(pb.PruneDecisionsRequest(trader_id="t"))
        await refused(call, grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")


@pytest.mark.parametrize(
    ("retention", "left"),
    [
        (Retention(), (6, 6)),
        (Retention(count=4), (4, 4)),
        (Retention(size_bytes=1), (1, 1)),
        (Retention(age=timedelta(seconds=3)), (4, 4)),
    ],
)
async def test_retention(logs: Logs, retention: Retention, left: tuple[int, int]) -> None:
    await six(logs)
    await six(logs, "b", "bob")
    housekeeping = logs.service.app.housekeeping
    logs.service.app.housekeeping.decisions.clock.now = Timestamp(seconds=START + 5).ToDatetime(  # type: ignore[attr-defined] # a FakeClock
        housekeeping.clock().tzinfo
    )
    await replace(housekeeping, retention=retention).sweep()
    assert (len(await logs.ids("t")), len(await logs.ids("b", "bob"))) == left
    assert await retain(housekeeping.decisions, retention) == 0


async def test_two_who_prune_at_one_time_leave_the_newest(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reads what there is, and only then does either delete."""
    monkeypatch.setattr(pruning, "AT_ONCE", 2)
    made = await six(logs)
    pruned = await asyncio.gather(*(logs.prune(keep_count=2) for _ in range(5)))
    assert await logs.ids() == [made[5].id, made[4].id] and await logs.counted() == 2
    assert sum(one.deleted_count for one in pruned) == 4 and {one.remaining_count for one in pruned} == {2}


async def test_the_newest_file_that_there_is_stays(files: Logs) -> None:
    made = await six(files)
    await files.home.settle()
    (files.root / "t" / f"{made[5].id}.json").unlink()
    assert await retain(files.service.app.housekeeping.decisions, Retention(count=1)) == 4
    assert await files.ids() == [made[4].id]


async def test_a_record_is_deleted_only_once_that_is_on_record(files: Logs) -> None:
    await six(files)
    await files.home.settle()
    with closing(sqlite3.connect(files.service.data_dir / "nofx.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await refused(files.prune(keep_count=1), grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    assert len(list((files.root / "t").iterdir())) == 6
    await files.prune(keep_count=1)
    assert len(list((files.root / "t").iterdir())) == 1


async def test_one_trader_keeps_no_other_from_retention(files: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    for trader, user in (("b", "bob"), ("t", "alice"), ("u", "alice")):
        await six(files, trader, user)
    await files.home.settle()
    shutil.rmtree(files.root / "b")
    remove = files.home.remove

    async def fails(log: Log, ids: Sequence[str]) -> None:
        if log.trader_id == "t":
            raise StoreUnavailable("as a disk that is read-only")
        await remove(log, ids)

    monkeypatch.setattr(files.home, "remove", fails)
    await retain(files.service.app.housekeeping.decisions, Retention(count=2))
    assert len(await files.ids("u")) == 2 and await files.ids("b", "bob") == []
