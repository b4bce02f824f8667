"""Streams of both clients: against the real service, over the wire, and by grpcio-testing's fake channel and clock."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from nofx_grpc.client import AsyncClient, Client, Retry, Revision, errors
from nofx_grpc.client import connection as client_connection
from nofx_grpc.client.errors import Failure, error_of
from nofx_grpc.v1 import traders_pb2, watch_pb2
from tests.client.fake import FakeService, Reply, at
from tests.client.support import AnyClient, close, listed
from tests.client.wire import wire
from tests.support.mirrors import fleet, rename
from tests.support.proxy import proxy_to
from tests.support.service import RunningService, running_service

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
DOWN = Reply(code=UNAVAILABLE)
SECONDS = 20.0


class Reader:
    """A stream of either client, read in a thread where it blocks."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    async def next(self) -> Any:
        """The next response, which must come soon; None at the end."""
        if hasattr(self.stream, "__anext__"):
            return await asyncio.wait_for(anext(self.stream, None), SECONDS)
        return await asyncio.wait_for(asyncio.to_thread(next, self.stream, None), SECONDS)


async def test_changes_are_told_as_they_are_made(service: RunningService, nofx: AnyClient) -> None:
    [trader] = await fleet(service, 1)
    reader = Reader(nofx.watch.watch(kinds=[watch_pb2.RESOURCE_KIND_TRADER], send_initial_state=True))
    assert [resource.trader.id for resource in (await reader.next()).snapshot.resources] == [trader]
    assert (await reader.next()).HasField("synced")
    await rename(service, trader)
    told = await reader.next()
    assert [change.resource.trader.name for change in told.changes.changes] == ["new"]
    assert nofx.revision == Revision(told.history_id, told.revision)
    reader.stream.close()
    assert await reader.next() is None


async def test_a_stream_that_ends_is_read_to_its_end(service: RunningService, kind: type[AnyClient]) -> None:
    traders = await fleet(service, 3)
    nofx = kind(service.address, token=service.token("engine"))
    responses = await listed(nofx, lambda c: c.traders.stream_trader_configs(runnable_only=True))
    assert sorted(config.trader.id for response in responses for config in response.configs) == traders
    assert nofx.revision == Revision(responses[-1].history_id, responses[-1].revision)
    await close(nofx)


async def test_where_a_stream_cannot_begin_its_error_tells(service: RunningService, nofx: AnyClient) -> None:
    history, revision = service.app.db.history_id, await service.revision()
    with pytest.raises(errors.HistoryChanged) as changed:
        await Reader(nofx.watch.watch(start_revision=1, history_id="another")).next()
    assert changed.value.history_id == history
    with pytest.raises(errors.RevisionInFuture) as future:
        await Reader(nofx.watch.watch(start_revision=revision + 7, history_id=history)).next()
    assert future.value.current_revision == revision
    await service.execute("UPDATE store_state SET compacted_revision = ?", revision)
    with pytest.raises(errors.RevisionCompacted) as compacted:
        await Reader(nofx.watch.watch(start_revision=0, history_id=history)).next()
    assert compacted.value.oldest_revision == revision


def test_a_slow_reader_is_told_where_to_resume() -> None:
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    error = error_of(Failure("Watch/Watch", code, "", "SLOW_READER", {"resume_revision": "42"}))
    assert isinstance(error, errors.SlowReader) and error.resume_revision == 42


async def test_a_stream_may_not_be_read_by_everybody(service: RunningService, kind: type[AnyClient]) -> None:
    nofx = kind(service.address, token=service.token("viewer"))
    with pytest.raises(errors.PermissionDenied, match="Traders/WatchTraderConfigs: PERMISSION_DENIED: "):
        await Reader(nofx.traders.watch_trader_configs()).next()
    await close(nofx)


async def test_a_stream_is_closed_while_it_is_read(nofx: AnyClient) -> None:
    reader = Reader(nofx.watch.watch())
    assert (await reader.next()).HasField("synced")
    reading = asyncio.create_task(reader.next())
    await asyncio.sleep(0.1)
    reader.stream.close()
    assert await reading is None


async def test_a_stream_ends_with_its_block(service: RunningService) -> None:
    async with AsyncClient(service.address, token=service.token("viewer")) as aio:
        async with aio.watch.watch() as stream:
            await anext(stream)
        assert await anext(stream, None) is None
    with Client(service.address, token=service.token("viewer")) as nofx:
        with nofx.watch.watch() as blocking:
            await asyncio.to_thread(next, blocking)
        assert next(blocking, None) is None


async def test_a_stream_of_a_client_that_is_closed(service: RunningService, kind: type[AnyClient]) -> None:
    nofx = kind(service.address, token=service.token("viewer"))
    reader = Reader(nofx.watch.watch())
    await reader.next()
    reading = asyncio.create_task(reader.next())
    await asyncio.sleep(0.1)
    await close(nofx)
    with pytest.raises(errors.Cancelled):
        await reading


async def test_a_task_that_reads_a_stream_is_cancelled_as_any_other(service: RunningService) -> None:
    async with AsyncClient(service.address, token=service.token("viewer")) as nofx:
        stream = nofx.watch.watch()
        await anext(stream)
        reading = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.1)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), nofx.watch.watch() as other:
                async for _ in other:
                    pass


async def test_a_stream_has_no_deadline_unless_one_is_given(kind: type[AnyClient]) -> None:
    async with wire(lambda _: b"") as server:
        nofx = kind(server.address, token="t", timeout=3.0)
        assert len(await listed(nofx, lambda c: c.watch.watch())) == 1
        assert len(await listed(nofx.with_options(stream_timeout=30), lambda c: c.watch.watch())) == 1
        without, with_one = server.seconds_left
        assert without is None and with_one is not None and 20 < with_one < 31
        await close(nofx)


async def test_a_deadline_ends_a_stream(service: RunningService, kind: type[AnyClient]) -> None:
    nofx = kind(service.address, token=service.token("viewer"), stream_timeout=0.5)
    reader = Reader(nofx.watch.watch())
    await reader.next()
    with pytest.raises(errors.DeadlineExceeded):
        await reader.next()
    await close(nofx)


@pytest.mark.slow
async def test_a_peer_that_falls_silent_is_noticed(
    kind: type[AnyClient], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    quick = {"grpc.keepalive_time_ms": 1500, "grpc.keepalive_timeout_ms": 1000, "grpc.http2.ping_timeout_ms": 1000}
    options = tuple((name, quick.get(name, value)) for name, value in client_connection._OPTIONS)
    monkeypatch.setattr(client_connection, "_OPTIONS", options)
    env = {"NOFX_GRPC_KEEPALIVE_MIN_PING_SECONDS": "1"}
    async with running_service(tmp_path / "quick", env=env) as quiet, proxy_to(lambda: quiet.address) as proxy:
        nofx = kind(proxy.address, token=quiet.token("viewer"))
        reader = Reader(nofx.watch.watch())
        await reader.next()
        reading = asyncio.create_task(reader.next())
        await asyncio.sleep(7)  # quiet for more pings than gRPC sends without data by default
        assert not reading.done()
        proxy.silence()
        with pytest.raises(errors.Unavailable):
            await reading
        await close(nofx)


def stream(service: FakeService) -> list[Any]:
    return list(service.client.watch.watch())


def test_a_stream_that_cannot_begin_is_tried_again_without_a_deadline() -> None:
    service = FakeService(DOWN, DOWN, Reply(watch_pb2.WatchResponse(revision=7)), timeout=1.0)
    assert [response.revision for response in stream(service)] == [7]
    assert [attempt.timeout for attempt in service.attempts] == [None] * 3
    assert service.pauses == [0.1, 0.2]


def test_a_stream_that_has_begun_is_not_tried_again() -> None:
    service = FakeService(Reply(watch_pb2.WatchResponse(), code=UNAVAILABLE), DOWN)
    with pytest.raises(errors.Unavailable):
        stream(service)
    assert len(service.attempts) == 1


def test_attempts_of_a_stream_share_its_deadline() -> None:
    down = Reply(code=UNAVAILABLE, takes=1.5)
    service = FakeService(down, Reply(), stream_timeout=8.0, retry=Retry(first_pause=1.0, longest_pause=1.0))
    assert stream(service) == []
    assert [attempt.timeout for attempt in service.attempts] == [8.0, 5.5]


def test_what_a_stream_shows_is_remembered_and_what_was_seen_is_asked_for() -> None:
    shown = watch_pb2.WatchResponse(revision=9, history_id=at(9)[1][1])
    trader = Reply(traders_pb2.Trader(), shown=at(9))
    service = FakeService(Reply(shown), trader, Reply())
    stream(service)
    service.client.traders.get_trader(user_id="ada", id="t-1")
    stream(service)
    assert [attempt.metadata.get("nofx-min-revision") for attempt in service.attempts] == [None, "9", "9"]
