"""What two servers do at the same moment to one decision log."""

import pytest

from nofx_grpc.v1 import decision_logs_pb2
from tests.races.ring import Ring, refusals

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def test_two_records_get_two_numbers(ring: Ring) -> None:
    user = await ring.user()
    trader = await ring.trader(user)
    record = decision_logs_pb2.Decision(success=True)
    request = decision_logs_pb2.AppendDecisionRequest(user_id=user, trader_id=trader.id, decision=record)
    for first in (1, 3):
        outcomes = await ring.both(request)
        assert sorted(outcome.cycle_number for outcome in outcomes) == [first, first + 1]  # type: ignore[union-attr] # else it fails


async def test_one_request_id_makes_one_record(ring: Ring) -> None:
    user = await ring.user()
    trader = await ring.trader(user)
    record = decision_logs_pb2.Decision(success=True)
    request = decision_logs_pb2.AppendDecisionRequest(
        user_id=user, trader_id=trader.id, decision=record, request_id=ring.new("request")
    )
    one, two = await ring.both(request)
    assert one == two and not isinstance(one, str)
    rows = "SELECT total_cycles FROM decision_logs WHERE trader_id = %s"
    assert ring.rows(rows, trader.id) == [(1,)]


async def test_what_is_pruned_twice_goes_once(ring: Ring) -> None:
    user = await ring.user()
    trader = await ring.trader(user)
    record = decision_logs_pb2.Decision(success=True)
    for _ in range(5):
        await ring.send(decision_logs_pb2.AppendDecisionRequest(user_id=user, trader_id=trader.id, decision=record))
    prune = decision_logs_pb2.PruneDecisionsRequest(trader_id=trader.id, keep_count=2)
    assert refusals(await ring.both(prune)) == []
    counts = "SELECT total_cycles, successful_cycles, last_cycle FROM decision_logs WHERE trader_id = %s"
    assert ring.rows(counts, trader.id) == [(2, 2, 5)]
