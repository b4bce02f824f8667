"""The follower of the change log: what it survives, what it leaves behind, and what it hands to whom."""

import asyncio
import gc
import weakref
from typing import Any

import grpc
import pytest

from nofx_grpc.errors import RevisionCompacted, StoreUnavailable
from nofx_grpc.services import feed as feeds
from nofx_grpc.services.subscriptions import Bell, Delivery, FeedOptions, Subscription
from nofx_grpc.store import changes
from nofx_grpc.store.changes import Change, Commit
from nofx_grpc.v1 import traders_pb2, users_pb2
from tests.support.clock import START
from tests.support.mirrors import Mirror, fleet, rename
from tests.support.service import RunningService, refusal_of
from tests.support.watching import Watching, create_exchange, ended, named, read, until

Code = grpc.StatusCode


def refusing(service: RunningService, monkeypatch: pytest.MonkeyPatch, times: int) -> list[str]:
    """The store refuses to read the log so many times; what was refused."""
    refused: list[str] = []
    scan = service.app.db.scan

    async def faulty(fn: Any, *args: Any, **kwargs: Any) -> Any:
        if fn is changes.after and len(refused) < times:
            refused.append("scan")
            raise StoreUnavailable("made up")
        return await scan(fn, *args, **kwargs)

    monkeypatch.setattr(service.app.db, "scan", faulty)
    return refused


async def test_an_error_of_the_store_is_outlived_and_nothing_is_missed(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching = Watching(service.client())
    await watching.synced()
    refused = refusing(service, monkeypatch, 3)
    for number in range(4):
        await create_exchange(service.client(), f"x{number}")
    assert [named(await watching.changes()) for _ in range(4)] == [[f"CREATE default/x{n}"] for n in range(4)]
    assert len(refused) == 3


async def test_an_error_of_the_store_is_logged_once(
    service: RunningService, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    watching = Watching(service.client())
    await watching.synced()
    refused = refusing(service, monkeypatch, 4)
    await create_exchange(service.client(), "okx")
    await watching.changes()
    assert len(refused) == 4 and capsys.readouterr().out.count("feed_failed") == 1


async def test_a_resume_that_the_store_refuses_is_refused(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await create_exchange(service.client(), "okx")
    refusing(service, monkeypatch, 1)
    fields: dict[str, Any] = {"start_revision": made.revision - 1, "history_id": service.app.db.history_id}
    await ended(Watching(service.client(), **fields).call, Code.UNAVAILABLE, "STORE_UNAVAILABLE")
    assert named(await Watching(service.client(), **fields).changes()) == ["CREATE default/okx"]


async def test_nothing_is_left_of_streams_that_have_ended(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[weakref.ref[Subscription | Bell]] = []
    enter = feeds.Feed._enter

    def noted(feed: feeds.Feed, place: Subscription | Bell, position: int) -> None:
        places.append(weakref.ref(place))
        enter(feed, place, position)

    monkeypatch.setattr(feeds.Feed, "_enter", noted)
    await fleet(service, 2)
    before = len(asyncio.all_tasks())

    async def begin(number: int) -> list[Any]:
        client = service.client("engine")
        watching = Watching(client, user_id=["", "default"][number % 2], send_initial_state=number % 3 == 0)
        await watching.synced()
        configs = client.traders.WatchTraderConfigs(traders_pb2.WatchTraderConfigsRequest())
        await read(configs)
        return [watching.call, configs]

    calls = [call for number in range(30) for call in await begin(number)]
    await until(lambda: service.app.feed.readers == 60)
    while calls:
        calls.pop().cancel()
    await until(lambda: not service.app.feed.readers and not len(service.app.gate.streams))
    assert len(places) == 60 and not service.app.feed._places and service.app.feed.held is None
    await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name().startswith("nofx-feed")])
    await until(lambda: gc.collect() >= 0 and not any(place() for place in places))
    for client in service.clients:
        await client.close()
    await until(lambda: len(asyncio.all_tasks()) <= before)


async def test_a_commit_larger_than_a_page_comes_whole(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "PAGE", 3)
    await service.add_users("ada")
    for number in range(10):
        await create_exchange(service.client(), f"x{number}", "ada")
    live, narrow = Watching(service.client()), Watching(service.client(), ["USER"])
    before = await live.synced()
    await narrow.synced()
    await service.client().users.DeleteUser(users_pb2.DeleteUserRequest(id="ada"))
    await create_exchange(service.client(), "next")
    resumed = Watching(service.client(), start_revision=before, history_id=service.app.db.history_id)
    for watching in (live, resumed):
        told = await watching.changes()
        assert len(told.changes) == 11 and not told.more and told.revision == before + 1
        assert named(await watching.changes()) == ["CREATE default/next"]
    assert named(await narrow.changes()) == ["DELETE ada/ada"] and narrow.last.revision == before + 1


async def test_the_log_was_compacted_past_the_follower(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only streams that need what is gone are ended; the feed goes on for those that came later."""
    (trader, *_) = await fleet(service, 1)
    behind = Watching(service.client())
    await behind.synced()
    engine = service.client("engine").traders.WatchTraderConfigs(traders_pb2.WatchTraderConfigsRequest())
    await read(engine)
    catch_up, stuck = feeds.Feed._catch_up, asyncio.Event()

    async def held_up(feed: feeds.Feed) -> None:
        await stuck.wait()
        await catch_up(feed)

    monkeypatch.setattr(feeds.Feed, "_catch_up", held_up)
    await asyncio.sleep(0.3)  # what was begun before is over
    await create_exchange(service.client(), "gone")
    made = await create_exchange(service.client(), "known")
    await service.app.db.write(changes.compact, made.revision, 500)
    later = Watching(service.client())
    assert await later.synced() == made.revision
    stuck.set()
    refusal = await ended(behind.call, Code.OUT_OF_RANGE, "REVISION_COMPACTED")
    assert refusal.metadata["oldest_revision"] == str(made.revision)
    await create_exchange(service.client(), "next")
    assert named(await later.changes()) == ["CREATE default/next"]
    refusal = await ended(engine, Code.OUT_OF_RANGE, "REVISION_COMPACTED")
    fresh = Mirror(service.client("engine"))
    await fresh.settled(await service.revision())
    assert await fresh.settled((await rename(service, trader)).revision) == [trader]


async def test_a_failed_place_tells_what_it_has_and_no_more() -> None:
    def delivery(revision: int) -> Delivery:
        return Delivery(Commit(revision, START, (Change("user", "a", "a", "update", ""),)))

    place = Subscription(1, lambda change: True, FeedOptions())
    place.put(delivery(2))
    place.reach(2)
    place.fail(RevisionCompacted(2, 9))
    place.put(delivery(10))
    place.reach(10)
    taken = await place.next()
    assert isinstance(taken, Delivery) and taken.commit.revision == 2
    with pytest.raises(RevisionCompacted):
        await place.next()


@pytest.mark.parametrize("stream", ["live", "resumed"])
async def test_what_a_new_history_holds_is_not_told_in_the_old_one(
    service: RunningService, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    """It begins between the question where the log stands and the look at what it holds."""
    history, before = service.app.db.history_id, await service.revision()
    live = watching = Watching(service.client())
    await live.synced()
    scan, left = service.app.db.scan, ["a promotion"]

    async def promoted_before(fn: Any, *args: Any, **kwargs: Any) -> Any:
        if fn is changes.after and left:
            await service.execute("UPDATE store_state SET history_id = ?", left.pop())
        return await scan(fn, *args, **kwargs)

    if stream == "resumed":
        await create_exchange(service.client(), "okx")
        await live.changes()
        watching = Watching(service.client(), start_revision=before, history_id=history)
    monkeypatch.setattr(service.app.db, "scan", promoted_before)
    if stream == "live":
        await create_exchange(service.client(), "okx")
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await watching.changes()
    refusal = refusal_of(told.value)
    assert (refusal.reason, refusal.metadata["history_id"]) == ("HISTORY_CHANGED", "a promotion")
    if live is not watching:
        await ended(live.call, Code.OUT_OF_RANGE, "HISTORY_CHANGED")
    assert await Watching(service.client()).synced() == before + 1
