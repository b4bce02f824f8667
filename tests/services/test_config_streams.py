"""StreamTraderConfigs and WatchTraderConfigs: all configurations, then each again when something in it changes."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from nofx_grpc.services import config_streams
from nofx_grpc.store import changes
from nofx_grpc.v1 import exchanges_pb2, signal_sources_pb2, system_config_pb2
from tests.support.mirrors import (
    Mirror,
    delete,
    fleet,
    rename,
    set_model,
    streamed,
    whole,
    without_revisions,
)
from tests.support.rows import EXCHANGE_SECRET, USER, make_exchange, make_signal_source, make_trader
from tests.support.service import RunningService, running_service
from tests.support.watching import ended

Code = grpc.StatusCode


# ---- StreamTraderConfigs


async def test_a_stream_has_what_each_get_has(service: RunningService) -> None:
    ids = await fleet(service, 3)
    await make_signal_source(service)
    configs, revision = await streamed(service.client("engine"))
    assert configs == await whole(service, *ids) and revision == await service.revision()
    assert configs[ids[0]].exchange_credentials.secret_key == EXCHANGE_SECRET


async def test_a_stream_of_no_traders_has_a_revision(service: RunningService) -> None:
    assert await streamed(service.client("engine")) == ({}, await service.revision())


async def test_pages_cover_all(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = await fleet(service, 7)
    for size in (1, 2, 7, 8):
        monkeypatch.setattr(config_streams, "PAGE", size)
        configs, _ = await streamed(service.client("engine"))
        assert list(configs) == ids


async def test_one_users_and_runnable_ones_only(service: RunningService) -> None:
    runs, stands = (
        await make_trader(service),
        await make_trader(service, exchange_id=(await make_exchange(service, "off", enabled=False)).id),
    )
    engine = service.client("engine")
    assert set((await streamed(engine))[0]) == {runs.id, stands.id}
    assert set((await streamed(engine, runnable_only=True))[0]) == {runs.id}
    assert set((await streamed(engine, user_id=USER))[0]) == {runs.id, stands.id}
    assert (await streamed(engine, user_id="bob"))[0] == {}
    await service.add_users("bob")
    limited = service.client(token=await service.make_token("engine", "bob"))
    assert (await streamed(limited))[0] == {}


async def test_a_stream_is_one_state_though_others_write_between_its_pages(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_streams, "PAGE", 2)
    ids = await fleet(service, 6)
    model = (await whole(service, ids[0]))[ids[0]].model.id
    scan = service.app.db.scan
    steps: Iterator[Callable[[], Awaitable[object]]] = iter(
        [
            lambda: rename(service, ids[0]),
            lambda: delete(service, ids[1]),
            lambda: set_model(service, model, name="other"),
            lambda: rename(service, ids[5]),
            lambda: rename(service, ids[4]),
        ]
    )

    async def disturbed(fn: Any, *args: Any, **kwargs: Any) -> Any:
        answer = await scan(fn, *args, **kwargs)
        if fn is not changes.after and (step := next(steps, None)) is not None:
            await step()
        return answer

    monkeypatch.setattr(service.app.db, "scan", disturbed)
    configs, revision = await streamed(service.client("engine"))
    monkeypatch.undo()
    assert revision == await service.revision() and next(steps, None) is None
    assert without_revisions(configs) == without_revisions(await whole(service, ids[0], *ids[2:]))


async def test_a_stream_ends_although_others_never_stop_writing(service: RunningService) -> None:
    ids = await fleet(service, 4)

    async def write() -> None:
        number = 0
        while True:
            number += 1
            await asyncio.gather(*(rename(service, id, f"n{number}") for id in ids))

    writing = asyncio.create_task(write())
    try:
        for _ in range(3):
            configs, revision = await asyncio.wait_for(streamed(service.client("engine")), 10)
            logged = await service.rows(
                "SELECT id, max(revision) FROM change_log WHERE kind = 'trader' AND revision <= ? GROUP BY id", revision
            )
            assert {id: config.trader.revision for id, config in configs.items()} == dict(logged)
    finally:
        writing.cancel()


# ---- WatchTraderConfigs


async def test_a_watch_begins_with_all_and_says_when_that_is_complete(service: RunningService) -> None:
    ids = await fleet(service, 3)
    mirror = Mirror(service.client("engine"))
    await mirror.settled(await service.revision())
    assert mirror.last.synced and mirror.last.history_id == service.app.db.history_id
    assert mirror.configs == await whole(service, *ids)


async def test_a_configuration_is_sent_again_when_any_part_of_it_changes(service: RunningService) -> None:
    first, second = await fleet(service, 2)
    model = (await whole(service, first))[first].model.id
    mirror = Mirror(service.client("engine"))
    await mirror.settled(await service.revision())
    assert await mirror.settled((await rename(service, first)).revision) == [first] and not mirror.last.synced
    changed = await set_model(service, model, api_key="another-key")
    assert await mirror.settled(changed.revision) == [first, second], "each once"
    assert mirror.configs[first].model_credentials.api_key == "another-key"
    exchange = exchanges_pb2.Exchange(user_id=USER, id="okx", name="Z")
    changed_exchange = await service.client().exchanges.UpdateExchange(
        exchanges_pb2.UpdateExchangeRequest(exchange=exchange)
    )
    assert await mirror.settled(changed_exchange.revision) == [first, second]
    source = await make_signal_source(service)
    assert await mirror.settled(source.revision) == [first, second]
    gone = signal_sources_pb2.DeleteSignalSourceRequest(user_id=USER)
    await service.client().signal_sources.DeleteSignalSource(gone)
    assert await mirror.settled(await service.revision()) == [first, second]
    assert not mirror.configs[first].HasField("signal_source_credentials")
    setting = system_config_pb2.ConfigSetting(key="max_daily_loss", value="7")
    request = system_config_pb2.SetSystemConfigRequest(settings=[setting])
    await service.client().system_config.SetSystemConfig(request)
    assert sorted(await mirror.settled(await service.revision())) == [first, second]
    assert mirror.configs[second].risk.max_daily_loss == 7
    await delete(service, first)
    assert await mirror.settled(await service.revision()) == [f"-{first}"]
    assert without_revisions(mirror.configs) == without_revisions(await whole(service, second))


async def test_what_is_no_part_of_a_configuration_sends_nothing(tmp_path: Path) -> None:
    async with running_service(tmp_path, env={"NOFX_GRPC_WATCH_BOOKMARK_SECONDS": "0.1"}) as service:
        await fleet(service, 1)
        mirror = Mirror(service.client("engine"))
        await mirror.settled(await service.revision())
        setting = system_config_pb2.ConfigSetting(key="beta_mode", value="true")
        await service.client().system_config.SetSystemConfig(
            system_config_pb2.SetSystemConfigRequest(settings=[setting])
        )
        assert await mirror.settled(await service.revision()) == [], "the revision comes with a sign of life"


async def test_a_watch_resumes_from_a_revision(service: RunningService) -> None:
    first, second, third = await fleet(service, 3)
    seen, history = await service.revision(), service.app.db.history_id
    await rename(service, second)
    await rename(service, second, "newer")
    await delete(service, third)
    mirror = Mirror(service.client("engine"), start_revision=seen, history_id=history)
    assert sorted(await mirror.settled(await service.revision())) == sorted([second, f"-{third}"])
    assert mirror.last.synced and mirror.configs == await whole(service, second)
    await rename(service, first)
    assert await mirror.settled(await service.revision()) == [first]


async def test_a_trader_that_changes_while_all_are_sent_again_is_not_missed(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await fleet(service, 3)
    seen, history = await service.revision(), service.app.db.history_id
    await rename(service, ids[0])
    setting = system_config_pb2.ConfigSetting(key="max_daily_loss", value="7")
    await service.client().system_config.SetSystemConfig(system_config_pb2.SetSystemConfigRequest(settings=[setting]))
    scan, renamed = service.app.db.scan, asyncio.Event()

    async def disturbed(fn: Any, *args: Any, **kwargs: Any) -> Any:
        answer = await scan(fn, *args, **kwargs)
        if fn.__name__ == "_read" and not renamed.is_set():
            renamed.set()
            await rename(service, ids[0], "the newest")
        return answer

    monkeypatch.setattr(service.app.db, "scan", disturbed)
    mirror = Mirror(service.client("engine"), start_revision=seen, history_id=history)
    await mirror.settled(seen + 3)
    assert renamed.is_set() and without_revisions(mirror.configs) == without_revisions(await whole(service, *ids))


async def test_a_watch_cannot_resume_from_anywhere(service: RunningService) -> None:
    engine, history = service.client("engine"), service.app.db.history_id
    await fleet(service, 1)
    current = await service.revision()
    await service.app.db.write(changes.compact, current, 100)
    calls = {
        "REVISION_COMPACTED": {"start_revision": current - 1, "history_id": history},
        "HISTORY_CHANGED": {"start_revision": current, "history_id": "another"},
        "REVISION_IN_FUTURE": {"start_revision": current + 1, "history_id": history},
    }
    for reason, fields in calls.items():
        await ended(Mirror(engine, **fields).call, Code.OUT_OF_RANGE, reason)
    await ended(Mirror(engine, start_revision=1).call, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")


async def test_runnable_only_hears_of_what_begins_and_ceases_to_be(service: RunningService) -> None:
    (id,) = await fleet(service, 1)
    model = (await whole(service, id))[id].model.id
    mirror = Mirror(service.client("engine"), runnable_only=True)
    await mirror.settled(await service.revision())
    assert set(mirror.configs) == {id}
    changed = await set_model(service, model, enabled=False)
    assert await mirror.settled(changed.revision) == [f"-{id}"]
    changed = await set_model(service, model, enabled=True)
    assert await mirror.settled(changed.revision) == [id]


async def test_a_limited_token_hears_of_its_own_user_only(service: RunningService) -> None:
    (id,) = await fleet(service, 1)
    await service.add_users("bob")
    bobs = Mirror(service.client(token=await service.make_token("engine", "bob")))
    alices = Mirror(service.client(token=await service.make_token("engine", USER)))
    for mirror in (bobs, alices):
        await mirror.settled(await service.revision())
    await rename(service, id)
    await delete(service, id)
    assert await alices.settled(await service.revision()) != []
    setting = system_config_pb2.ConfigSetting(key="max_daily_loss", value="7")
    await service.client().system_config.SetSystemConfig(system_config_pb2.SetSystemConfigRequest(settings=[setting]))
    assert await bobs.settled(await service.revision()) == [] and bobs.configs == {}
