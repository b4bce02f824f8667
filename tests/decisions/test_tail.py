"""TailDecisions: history, then what comes, once each."""

import asyncio

import grpc
import pytest

from nofx_grpc.v1 import decision_logs_pb2 as pb
from tests.decisions.support import Logs, record, until_synced
from tests.support.service import refused


async def next_id(stream: object) -> str:
    async with asyncio.timeout(30):
        response = await stream.read()  # type: ignore[attr-defined] # a call
    assert [decision.trader_id for decision in response.decisions] == ["t"]
    return str(response.decisions[0].id)


async def test_history_then_live(logs: Logs) -> None:
    ids = [(await logs.append()).id for _ in range(3)]
    stream = logs.tail(history_count=2)
    assert await until_synced(stream) == ids[1:]
    await logs.append("u")
    for _ in range(3):
        made = await logs.append()
        assert await next_id(stream) == made.id
    stream.cancel()


async def test_it_goes_on_after_a_record(logs: Logs) -> None:
    ids = [(await logs.append()).id for _ in range(4)]
    stream = logs.tail(after_id=ids[1])
    assert await until_synced(stream) == ids[2:]
    stream.cancel()


async def test_a_trader_without_records_can_be_followed(logs: Logs) -> None:
    stream = logs.tail(history_count=10)
    assert await until_synced(stream) == []
    made = await logs.append()
    assert await next_id(stream) == made.id
    stream.cancel()


async def test_files_that_come_from_elsewhere_are_told_of(files: Logs) -> None:
    stream = files.tail()
    assert await until_synced(stream) == []
    files.put("decision_20251118_100000_cycle1.json", record())
    assert await next_id(stream) == "decision_20251118_100000_cycle1"
    stream.cancel()


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"after_id": "x", "history_count": 1}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
        ({"after_id": "x"}, grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
        ({"user_id": "bob"}, grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
    ],
)
async def test_refusals(files: Logs, fields: dict[str, object], code: grpc.StatusCode, reason: str) -> None:
    stream = files.tail(**fields)  # type: ignore[arg-type] # fields of a request
    await refused(stream.read(), code, reason)


async def test_a_token_of_one_user_follows_no_other(files: Logs) -> None:
    client = files.service.client(token=await files.service.make_token("viewer", "alice"))
    stream = client.decision_logs.TailDecisions(pb.TailDecisionsRequest(trader_id="b"))
    await refused(stream.read(), grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
