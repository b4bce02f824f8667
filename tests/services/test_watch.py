"""Watch: where a stream begins, what it tells, and which streams cannot be."""

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from nofx_grpc.app import open_database
from nofx_grpc.services import feed, watch_messages, watch_snapshot
from nofx_grpc.store import changes, exchanges
from nofx_grpc.store.resources import UNWRITTEN
from nofx_grpc.v1 import exchanges_pb2, models_pb2, users_pb2, watch_pb2
from tests.support.clock import FakeClock
from tests.support.service import RunningService, running_service
from tests.support.watching import (
    Watching,
    create_exchange,
    delete_exchange,
    ended,
    named,
    read,
    rename_exchange,
    shown_resource,
    until,
)

Code = grpc.StatusCode
SECRET = "plaintext-7c1f"


# ---- where it begins


async def test_without_a_start_it_begins_now(service: RunningService) -> None:
    client = service.client()
    await create_exchange(client, "before")
    watching = Watching(client)
    assert await watching.synced() == await service.revision() and watching.state == {}
    made = await create_exchange(client, "okx")
    told = await watching.changes()
    assert named(told) == ["CREATE default/okx"]
    assert (told.revision, watching.last.revision) == (made.revision, made.revision)
    assert watching.last.history_id == service.app.db.history_id


async def test_a_change_shows_the_resource_as_get_does(service: RunningService) -> None:
    client = service.client()
    watching = Watching(client)
    await watching.synced()
    made = await create_exchange(client, "okx", api_key=SECRET)
    (change,) = (await watching.changes()).changes
    assert shown_resource(change.resource) == made and made.api_key_set
    await delete_exchange(client, "okx")
    (gone,) = (await watching.changes()).changes
    assert gone == watch_pb2.Change(
        operation=watch_pb2.OPERATION_DELETE, kind=watch_pb2.RESOURCE_KIND_EXCHANGE, user_id="default", id="okx"
    )


async def test_an_initial_state_is_what_the_lists_show(service: RunningService) -> None:
    client = service.client()
    await create_exchange(client, "okx", api_key=SECRET)
    watching = Watching(client, send_initial_state=True)
    assert await watching.synced() == await service.revision()
    listed = await client.exchanges.ListExchanges(exchanges_pb2.ListExchangesRequest())
    shown = [m for (kind, _, _), m in watching.state.items() if kind == watch_pb2.RESOURCE_KIND_EXCHANGE]
    assert shown == list(listed.exchanges) and len(shown) == 4
    kinds = {kind for kind, _, _ in watching.state}
    assert {watch_pb2.RESOURCE_KIND_USER, watch_pb2.RESOURCE_KIND_MODEL, watch_pb2.RESOURCE_KIND_CONFIG_ENTRY} <= kinds
    assert SECRET not in str(watching.state)


async def test_no_response_of_an_initial_state_can_be_resumed_from(service: RunningService) -> None:
    watching = Watching(service.client(), send_initial_state=True)
    while not (await watching.next()).HasField("synced"):
        assert watching.last.revision == 0


async def test_a_stream_resumes_after_the_revision_that_was_seen(service: RunningService) -> None:
    client = service.client()
    made = [await create_exchange(client, f"x{number}") for number in range(4)]
    history = service.app.db.history_id
    watching = Watching(client, start_revision=made[1].revision, history_id=history)
    assert [named(await watching.changes()) for _ in range(2)] == [["CREATE default/x2"], ["CREATE default/x3"]]
    assert watching.last.revision == made[3].revision
    assert (await watching.next()).HasField("synced") and watching.last.revision == made[3].revision
    await delete_exchange(client, "x0")
    assert named(await watching.changes()) == ["DELETE default/x0"]


async def test_an_old_revision_is_reached_in_pages(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "PAGE", 3)
    client = service.client()
    before = await service.revision()
    for number in range(10):
        await create_exchange(client, f"x{number}")
    watching = Watching(client, start_revision=before, history_id=service.app.db.history_id)
    assert [named(await watching.changes()) for _ in range(10)] == [[f"CREATE default/x{n}"] for n in range(10)]
    assert (await watching.next()).HasField("synced")


# ---- what it tells


async def test_all_changes_of_a_revision_come_together(service: RunningService) -> None:
    client = service.client()
    user = await client.users.CreateUser(users_pb2.CreateUserRequest(user=users_pb2.User(email="a@example.com")))
    await create_exchange(client, "okx", user.id)
    watching = Watching(client)
    await watching.synced()
    await client.users.DeleteUser(users_pb2.DeleteUserRequest(id=user.id))
    told = await watching.changes()
    assert named(told) == [f"DELETE {user.id}/okx", f"DELETE {user.id}/{user.id}"] and not told.more


async def test_a_revision_too_large_for_one_response_says_that_more_follows(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = service.client()
    await service.add_users("ada")
    for number in range(5):
        await create_exchange(client, f"x{number}", "ada")
    watching = Watching(client)
    before = await watching.synced()
    monkeypatch.setattr(watch_messages, "MOST_BYTES", 100)
    await client.users.DeleteUser(users_pb2.DeleteUserRequest(id="ada"))
    parts = [await watching.changes()]
    while parts[-1].more:
        assert watching.last.revision == 0
        parts.append(await watching.changes())
    assert len(parts) > 1 and {part.revision for part in parts} == {before + 1}
    assert [name for part in parts for name in named(part)][-1] == "DELETE ada/ada"
    assert watching.last.revision == before + 1


async def test_only_what_was_asked_for_is_told(service: RunningService) -> None:
    client = service.client()
    await service.add_users("ada", "bob")
    models, adas = Watching(client, ["MODEL"]), Watching(client, user_id="ada")
    await models.synced(), await adas.synced()
    await create_exchange(client, "okx", "bob")
    await create_exchange(client, "okx", "ada")
    request = models_pb2.CreateModelRequest(user_id="bob", model=models_pb2.Model(name="Q", provider="qwen"))
    model = await client.models.CreateModel(request)
    assert named(await models.changes()) == [f"CREATE bob/{model.id}"]
    await delete_exchange(client, "okx", "bob")
    await delete_exchange(client, "okx", "ada")
    assert [named(await adas.changes()) for _ in range(2)] == [["CREATE ada/okx"], ["DELETE ada/okx"]]


async def test_bookmarks_pass_over_what_was_not_asked_for(tmp_path: Path) -> None:
    async with running_service(tmp_path, env={"NOFX_GRPC_WATCH_BOOKMARK_SECONDS": "0.1"}) as service:
        watching = Watching(service.client(), ["TRADER"])
        assert await watching.synced() == (await watching.next()).revision
        made = await create_exchange(service.client(), "okx")
        while (await watching.next()).revision < made.revision:
            assert watching.last.HasField("bookmark")
        assert watching.last.HasField("bookmark") and watching.last.revision == made.revision


async def test_what_another_process_writes_is_found(service: RunningService, clock: FakeClock) -> None:
    watching = Watching(service.client())
    await watching.synced()
    other, _ = open_database(service.app.settings, clock)
    other.open()
    fields: dict[str, Any] = dict.fromkeys(exchanges.Exchange.__slots__, "")
    draft = exchanges.Exchange(
        **fields | {"enabled": False, "testnet": False, "id": "far", "user_id": "default"} | UNWRITTEN
    )
    try:
        await other.write(exchanges.resource.create, draft)
        assert named(await watching.changes()) == ["CREATE default/far"]
    finally:
        await other.close()


async def test_a_snapshot_is_one_state_though_others_write_between_its_pages(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_snapshot, "PAGE_ROWS", 2)
    client = service.client()
    for id in ("b", "d", "f", "h"):
        await create_exchange(client, id)
    scan, started = service.app.db.scan, await service.revision()
    steps: Iterator[Callable[[], Awaitable[object]]] = iter(
        [
            lambda: create_exchange(client, "a"),  # behind what was read
            lambda: rename_exchange(client, "b", "new"),
            lambda: create_exchange(client, "z"),  # before it
            lambda: delete_exchange(client, "f"),
        ]
    )

    async def disturbed(fn: Any, *args: Any, **kwargs: Any) -> Any:
        assert service.app.feed.held == started, "compaction must spare what the snapshot needs"
        answer = await scan(fn, *args, **kwargs)
        if fn is not changes.after and (step := next(steps, None)) is not None:
            await step()
        return answer

    monkeypatch.setattr(service.app.db, "scan", disturbed)
    watching = Watching(client, ["EXCHANGE"], send_initial_state=True)
    told: list[str] = []
    while not (await watching.next()).HasField("synced"):
        assert watching.last.revision == 0
        told += named(watching.last.changes)
    monkeypatch.undo()
    assert service.app.feed.held is None
    assert watching.last.revision == await service.revision()
    listed = await client.exchanges.ListExchanges(exchanges_pb2.ListExchangesRequest())
    assert sorted(watching.state) == [(3, "default", e.id) for e in listed.exchanges]
    assert [watching.state[3, "default", e.id] for e in listed.exchanges] == list(listed.exchanges)
    assert next(steps, None) is None and len(told) == len(set(told))
    assert "CREATE default/a" in told and "CREATE default/z" not in told


# ---- what cannot be


async def test_a_revision_that_is_not_kept_any_more(service: RunningService) -> None:
    client, history = service.client(), service.app.db.history_id
    made = [await create_exchange(client, f"x{number}") for number in range(3)]
    await service.app.db.write(changes.compact, made[1].revision, 100)
    call = Watching(client, start_revision=made[0].revision, history_id=history).call
    refusal = await ended(call, Code.OUT_OF_RANGE, "REVISION_COMPACTED")
    assert refusal.metadata["oldest_revision"] == str(made[1].revision)
    watching = Watching(client, start_revision=made[1].revision, history_id=history)
    assert named(await watching.changes()) == ["CREATE default/x2"]


async def test_a_revision_of_another_history(service: RunningService) -> None:
    call = Watching(service.client(), start_revision=1, history_id="another").call
    refusal = await ended(call, Code.OUT_OF_RANGE, "HISTORY_CHANGED")
    assert refusal.metadata["history_id"] == service.app.db.history_id


async def test_a_revision_that_the_store_has_not_reached(service: RunningService) -> None:
    current = await service.revision()
    call = Watching(service.client(), start_revision=current + 1, history_id=service.app.db.history_id).call
    refusal = await ended(call, Code.OUT_OF_RANGE, "REVISION_IN_FUTURE")
    assert refusal.metadata["current_revision"] == str(current)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"start_revision": 1}, "history_id"),
        ({"history_id": "h"}, "start_revision"),
        ({"start_revision": 1, "history_id": "h", "send_initial_state": True}, "start_revision"),
        ({"kinds": ["BETA_CODE"], "user_id": "ada"}, "kinds"),
        ({"kinds": ["MODEL", "MODEL"]}, "kinds"),
        ({"kinds": ["UNSPECIFIED"]}, "kinds[0]"),
    ],
)
async def test_requests_that_contradict_themselves(service: RunningService, fields: Any, field: str) -> None:
    call = Watching(service.client(), **fields).call
    refusal = await ended(call, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert set(refusal.violations) == {field}


async def test_a_limited_token_is_told_of_its_own_user_only(service: RunningService) -> None:
    await service.add_users("ada", "bob")
    client = service.client()
    await create_exchange(client, "early", "bob")
    limited = service.client(token=await service.make_token("viewer", "ada"))
    live, whole = Watching(limited), Watching(limited, send_initial_state=True)
    await live.synced(), await whole.synced()
    assert {key[1] for key in whole.state} == {"ada"}
    await delete_exchange(client, "early", "bob")
    await create_exchange(client, "okx", "bob")
    await create_exchange(client, "okx", "ada")
    for watching in (live, whole):
        assert named(await watching.changes()) == ["CREATE ada/okx"]
    call = Watching(limited, ["CONFIG_ENTRY"]).call
    await ended(call, Code.PERMISSION_DENIED, "PERMISSION_DENIED")


async def test_a_stream_that_the_client_leaves_is_forgotten(service: RunningService) -> None:
    watching = Watching(service.client())
    await watching.synced()
    streams = service.app.gate.streams
    assert len(streams) == 1
    watching.call.cancel()
    await until(lambda: not len(streams))
    assert service.app.feed.readers == 0
    assert await read(Watching(service.client()).call)
