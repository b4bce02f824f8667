"""A stream of configurations reads on as its client does: what is not taken is not read, however much there is."""

import asyncio
import dataclasses
from typing import Any

import pytest

from nofx_grpc.services.config_streams import PAGE, ConfigStream
from nofx_grpc.store import traders
from nofx_grpc.store.engine import Connection
from nofx_grpc.v1 import traders_pb2 as pb
from tests.support.mirrors import fleet
from tests.support.rows import USER
from tests.support.service import RunningService
from tests.support.watching import read

PAGES = 30


@pytest.mark.parametrize("engine", ["sqlite"])  # it is the stream that waits, not the store
async def test_a_reader_that_stops_makes_the_server_stop(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    (id,) = await fleet(service, 1)

    def create_many(connection: Connection) -> Any:
        one = traders.resource.get(connection, USER, id)
        for number in range(PAGES * PAGE - 1):
            large = dataclasses.replace(one, id=f"t{number}", custom_prompt="x" * 8_000)
            traders.resource.create(connection, large)

    await service.app.db.write(create_many)
    pages: list[object] = []
    real = ConfigStream._page

    def counted(self: ConfigStream, connection: Connection, after: Any) -> Any:
        pages.append(after)
        return real(self, connection, after)

    monkeypatch.setattr(ConfigStream, "_page", counted)
    call = service.client("engine").traders.StreamTraderConfigs(pb.StreamTraderConfigsRequest())
    found = len((await read(call)).configs)
    before = -1
    while before != len(pages):  # until it has stopped
        before = len(pages)
        await asyncio.sleep(0.5)
    assert before < PAGES / 2, "what gRPC has taken off the stream (7 pages when this was written), and one more"

    async for response in call:
        found += len(response.configs)
    assert found == PAGES * PAGE and len(pages) >= PAGES
