"""A stream of configurations reads on as its client does: what is not taken is not read, however much there is."""

import asyncio
import dataclasses
from typing import Any

import pytest

from nofx_grpc.services.config_streams import PAGE, ConfigStream
from nofx_grpc.services.groups import size_in_another
from nofx_grpc.services.watch_messages import MOST_BYTES
from nofx_grpc.store import trader_configs, traders
from nofx_grpc.store.engine import Connection
from nofx_grpc.v1 import traders_pb2 as pb
from tests.support.mirrors import fleet
from tests.support.rows import USER
from tests.support.service import RunningService
from tests.support.watching import read

PAGES = 30


async def make_fleet(service: RunningService, number: int, prompt: str) -> None:
    (id,) = await fleet(service, 1)

    def create_many(connection: Connection) -> Any:
        one = traders.resource.get(connection, USER, id)
        for count in range(number - 1):
            traders.resource.create(connection, dataclasses.replace(one, id=f"t{count}", custom_prompt=prompt))

    await service.app.db.write(create_many)


@pytest.mark.parametrize("engine", ["sqlite"])  # it is the stream that waits, not the store
async def test_a_reader_that_stops_makes_the_server_stop(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_fleet(service, PAGES * PAGE, "x" * 8_000)
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


@pytest.mark.parametrize("engine", ["sqlite"])
@pytest.mark.parametrize("runnable_only", [False, True])
async def test_what_is_read_at_one_time_is_what_one_response_takes(
    service: RunningService, monkeypatch: pytest.MonkeyPatch, runnable_only: bool
) -> None:
    """Whatever the rows hold: it is what an open stream holds as long as its client does not read."""
    await make_fleet(service, 50, "x" * 60_000)
    sizes: list[int] = []
    rows: list[int] = []
    real, real_rows = ConfigStream._page, trader_configs.page

    def counted(*arguments: Any) -> Any:
        rows.append(len(found := real_rows(*arguments)))
        return found

    monkeypatch.setattr(trader_configs, "page", counted)

    def measured(self: ConfigStream, connection: Connection, after: Any) -> Any:
        page = real(self, connection, after)
        sizes.append(sum(map(size_in_another, page.configs)))
        return page

    monkeypatch.setattr(ConfigStream, "_page", measured)
    request = pb.StreamTraderConfigsRequest(runnable_only=runnable_only)
    responses = [each async for each in service.client("engine").traders.StreamTraderConfigs(request)]
    ids = [config.trader.id for each in responses for config in each.configs]
    assert len(ids) == len(set(ids)) == 50
    assert max(sizes) <= MOST_BYTES
    # A response takes 17, the first one 18: 25 rows are read for it, and then one more than the last one has taken.
    assert rows == [25, 19, 15]
