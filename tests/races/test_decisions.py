"""What two servers write at the same moment to one decision log, whose files they share."""

import pytest

from nofx_grpc.v1 import decision_logs_pb2 as pb
from tests.races.ring import Ring, refusals

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def append(user: str, trader: str, cycle: int, request_id: str = "") -> pb.AppendDecisionRequest:
    decision = pb.Decision(cycle_number=cycle, success=True)
    decision.time.GetCurrentTime()
    return pb.AppendDecisionRequest(user_id=user, trader_id=trader, decision=decision, request_id=request_id)


async def ids(ring: Ring, user: str, trader: str) -> list[str]:
    listed = await ring.send(pb.ListDecisionsRequest(user_id=user, trader_id=trader))
    return [decision.id for decision in listed.decisions]


async def test_append_and_prune(ring: Ring) -> None:
    user = await ring.user()
    trader = (await ring.trader(user)).id
    one, two = await ring.both(append(user, trader, 1))
    assert isinstance(one, pb.Decision) and isinstance(two, pb.Decision) and one.id != two.id
    assert sorted(await ids(ring, user, trader)) == sorted([one.id, two.id])
    one, two = await ring.both(append(user, trader, 2, ring.new("request")))
    assert isinstance(one, pb.Decision) and one == two
    assert len(await ids(ring, user, trader)) == 3
    prune = pb.PruneDecisionsRequest(user_id=user, trader_id=trader, keep_count=1)
    assert refusals(await ring.both(prune)) == []
    assert await ids(ring, user, trader) == [one.id]
