"""PruneDecisions and the retention of the settings: the oldest go, the newest never."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from nofx_grpc.services.decision_pruning import Retention, retain
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
