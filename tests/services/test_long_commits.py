"""A commit of many changes is made into messages bit by bit, and once for all streams that want the same."""

import asyncio
from typing import Any

import pytest

from nofx_grpc.services import watch_messages
from nofx_grpc.services.watch_messages import commit_to_proto
from nofx_grpc.store import exchanges, traders
from nofx_grpc.store.changes import Change, Commit
from nofx_grpc.store.engine import Connection
from nofx_grpc.v1 import watch_pb2 as pb
from tests.store.support import exchange, trader
from tests.support.clock import START
from tests.support.service import RunningService
from tests.support.watching import Watching, named

MANY = 1_000


async def test_others_have_their_turn_meanwhile() -> None:
    logged = traders.resource.to_log(trader(created_at=START, updated_at=START, custom_prompt="x" * 2_000))
    changes = tuple(Change("trader", "ada", f"t{number}", "update", logged) for number in range(MANY))
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count_turns())
    responses = [response async for response in commit_to_proto(Commit(7, START, changes), "h")]
    counting.cancel()
    assert turns >= MANY / 20, "a turn for others after at most twenty changes"
    assert [change.id for response in responses for change in response.changes.changes] == [c.id for c in changes]
    assert [response.revision for response in responses] == [0] * (len(responses) - 1) + [7]
    assert [response.changes.more for response in responses] == [True] * (len(responses) - 1) + [False]
    assert len(responses) > 1 and all(r.ByteSize() <= watch_messages.MOST_BYTES + 4_000 for r in responses)


async def test_it_is_encoded_once_for_all_streams_that_want_the_same(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    convert = watch_messages.change_to_proto

    def counted(change: Change) -> pb.Change:
        made.append(change.id)
        return convert(change)

    monkeypatch.setattr(watch_messages, "change_to_proto", counted)
    watching = [Watching(service.client()) for _ in range(5)]
    for stream in watching:
        await stream.synced()

    def create_many(connection: Connection) -> Any:
        for number in range(200):
            exchanges.resource.create(connection, exchange(f"x{number:03}", "default"))

    await service.app.db.write(create_many)
    for stream in watching:
        assert named(await stream.changes()) == [f"CREATE default/x{number:03}" for number in range(200)]
    assert len(made) == 200
