"""A mirror of either client over the real service."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from nofx_grpc.client import AsyncClient, Client, ClientSettingsError, Revision, TraderConfigMirror, errors
from nofx_grpc.v1 import traders_pb2
from tests.client.mirrors import Mirrored, mirrored, until
from tests.client.support import AnyClient
from tests.support.mirrors import delete, fleet, rename, set_model
from tests.support.rows import EXCHANGE_KEY, EXCHANGE_SECRET, MODEL_KEY, USER
from tests.support.service import RunningService, running_service


@pytest.fixture
async def held(service: RunningService, kind: type[AnyClient]) -> AsyncIterator[Mirrored]:
    """A mirror of three traders, who share a model and an exchange."""
    await fleet(service, 3)
    async with mirrored(kind(service.address, token=service.token("engine"))) as one:
        await one.synced()
        await until(lambda: len(one.told) == 3)
        one.told.clear()
        yield one


async def test_it_holds_what_the_service_holds(service: RunningService, held: Mirrored) -> None:
    view = held.mirror.view
    assert view.revision == Revision(service.app.db.history_id, await service.revision())
    for (user_id, id), config in view.items():
        request = traders_pb2.GetTraderConfigRequest(user_id=user_id, trader_id=id)
        whole = await service.client("engine").traders.GetTraderConfig(request)
        whole.revision = config.revision
        assert config == whole == held.mirror.get(user_id, id)
    assert config.model_credentials.api_key == MODEL_KEY and len(view) == 3
    assert held.mirror.get(USER, "nobody") is None


async def test_it_hears_of_every_change(service: RunningService, held: Mirrored) -> None:
    first, second, third = sorted(held.names)
    await rename(service, first)
    await held.shows(lambda names: names[first] == "new")
    await delete(service, second)
    await held.shows(lambda names: second not in names)
    await until(lambda: held.told == [first, f"-{second}"])
    held.told.clear()
    model = held.mirror.view[USER, first].trader.ai_model_id
    await set_model(service, model, custom_model_name="deeper")
    await until(lambda: sorted(held.told) == sorted([first, third]))
    assert {config.model.custom_model_name for config in held.mirror.view.values()} == {"deeper"}


async def test_a_change_of_several_is_shown_at_once(service: RunningService, held: Mirrored) -> None:
    model = next(iter(held.mirror.view.values())).trader.ai_model_id
    seen: list[set[str]] = []

    def look() -> bool:
        seen.append({config.model.name for config in held.mirror.view.values()})
        return seen[-1] == {"last"}

    for name in [*map(str, range(30)), "last"]:
        await set_model(service, model, name=name)
        look()
    await until(look)
    assert max(map(len, seen)) == 1, "a part of a revision was shown"


async def test_only_what_is_runnable(service: RunningService, kind: type[AnyClient]) -> None:
    [trader] = await fleet(service, 1)
    async with mirrored(kind(service.address, token=service.token("engine")), runnable_only=True) as one:
        await one.synced()
        await until(lambda: one.told == [trader])
        model = one.mirror.view[USER, trader].trader.ai_model_id
        await set_model(service, model, enabled=False)
        await until(lambda: one.told == [trader, f"-{trader}"])
        assert one.names == {}
        await set_model(service, model, enabled=True)
        await until(lambda: one.told[2:] == [trader])


async def test_only_one_user(service: RunningService, kind: type[AnyClient]) -> None:
    await fleet(service, 1)
    await service.add_users("bob")
    nofx = kind(service.address, token=await service.make_token("engine", "bob"))
    async with mirrored(nofx, user_id="bob") as one:
        await one.synced()
        assert one.names == {}
    async with mirrored(kind(service.address, token=service.token("engine")), user_id=USER) as one:
        await one.synced()
        assert len(one.names) == 1


async def test_its_age_is_told_by_bookmarks(kind: type[AnyClient], tmp_path: Path) -> None:
    env = {"NOFX_GRPC_WATCH_BOOKMARK_SECONDS": "1"}
    async with (
        running_service(tmp_path / "data", env=env) as service,
        mirrored(kind(service.address, token=service.token("engine"))) as one,
    ):
        assert one.mirror.age == float("inf")
        await one.synced()
        await until(lambda: one.mirror.age > 0.5)
        await until(lambda: one.mirror.age < 0.5)
        await service.app.server.stop(0)
        await until(lambda: one.mirror.age > 3)
        assert isinstance(one.mirror.trouble, errors.Unavailable)
        assert one.mirror.view.revision is not None, "what was known can still be read"


async def test_silence_is_a_broken_connection(kind: type[AnyClient], tmp_path: Path) -> None:
    env = {"NOFX_GRPC_WATCH_BOOKMARK_SECONDS": "30"}
    async with (
        running_service(tmp_path / "data", env=env) as service,
        mirrored(kind(service.address, token=service.token("engine")), silence=0.4) as one,
    ):
        await one.synced()
        await until(lambda: "silent for 0.4 seconds" in str(one.mirror.trouble))
        await until(lambda: one.mirror.trouble is None)


async def test_what_is_refused_is_fatal(service: RunningService, kind: type[AnyClient]) -> None:
    for role, error in (("viewer", errors.PermissionDenied), ("admin", errors.PermissionDenied)):
        async with mirrored(kind(service.address, token=service.token(role))) as one:
            await one.failed(error)
    async with mirrored(kind(service.address, token="nofx_wrong")) as one:
        await one.failed(errors.Unauthenticated)
    async with mirrored(kind(service.address, token=service.token("engine")), user_id="a\nb") as one:
        await one.failed(errors.InvalidArgument)


async def test_a_token_that_is_revoked(service: RunningService, kind: type[AnyClient], tmp_path: Path) -> None:
    [trader] = await fleet(service, 1)
    file = tmp_path / "token"
    file.write_text(await service.make_token("engine"))
    fixed = kind(service.address, token=file.read_text())
    async with mirrored(kind(service.address, token_file=file)) as one, mirrored(fixed) as other:
        await one.synced()
        await other.synced()
        await service.execute("UPDATE tokens SET revoked_at = ? WHERE NOT bootstrap", "2026-01-01 00:00:00")
        await other.failed(errors.Unauthenticated)
        await until(lambda: isinstance(one.mirror.trouble, errors.Unauthenticated))
        await rename(service, trader)
        assert one.names[trader] != "new"
        file.with_suffix(".new").write_text(await service.make_token("engine"))
        file.with_suffix(".new").replace(file)
        await one.shows(lambda names: names[trader] == "new")


async def test_nobody_there(kind: type[AnyClient], tmp_path: Path) -> None:
    async with mirrored(kind(f"unix:{tmp_path}/nobody", token="t")) as one:
        with pytest.raises(TimeoutError, match=r"no configurations within 0\.5 seconds: .*UNAVAILABLE"):
            await one.synced(0.5)
        assert one.mirror.view.revision is None and one.mirror.age == float("inf")


async def test_an_error_of_a_callback_is_not_lost(service: RunningService, kind: type[AnyClient]) -> None:
    [trader] = await fleet(service, 1)

    def fail(config: Any) -> None:
        raise ValueError(f"cannot run {config.trader.id}")

    async def fail_soon(config: Any) -> None:
        fail(config)

    nofx = kind(service.address, token=service.token("engine"))
    async with mirrored(nofx, on_change=fail_soon if isinstance(nofx, AsyncClient) else fail) as one:
        assert str(await one.failed(ValueError)) == f"cannot run {trader}"


async def test_a_callback_that_takes_long_does_not_hold_up_the_view(
    service: RunningService, kind: type[AnyClient]
) -> None:
    [trader] = await fleet(service, 1)
    names: list[str] = []
    go, go_soon = threading.Event(), asyncio.Event()

    def slow(config: Any) -> None:
        names.append(config.trader.name)
        assert go.wait(30)

    async def slow_soon(config: Any) -> None:
        names.append(config.trader.name)
        await asyncio.wait_for(go_soon.wait(), 30)

    nofx = kind(service.address, token=service.token("engine"))
    async with mirrored(nofx, on_change=slow_soon if isinstance(nofx, AsyncClient) else slow) as one:
        await until(lambda: names)
        for name in ("second", "third", "fourth"):
            await rename(service, trader, name)
        await one.shows(lambda shown: shown[trader] == "fourth")
        go.set()
        go_soon.set()
        await until(lambda: len(names) == 2)
        assert names == ["T", "fourth"]


async def test_it_may_be_closed_by_its_own_callback(service: RunningService, kind: type[AnyClient]) -> None:
    await fleet(service, 2)
    told: list[str] = []

    def last(config: Any) -> None:
        told.append(config.trader.id)
        one.mirror.close()

    async def last_soon(config: Any) -> None:
        told.append(config.trader.id)
        await one.mirror.close()  # type: ignore[misc]  # the asynchronous one

    nofx = kind(service.address, token=service.token("engine"))
    async with mirrored(nofx, on_change=last_soon if isinstance(nofx, AsyncClient) else last) as one:
        await asyncio.wait_for(one.done(one.mirror.join), 30)
        assert len(told) == 1 and len(one.names) == 2


async def test_closing_leaves_nothing_behind(service: RunningService, kind: type[AnyClient]) -> None:
    await fleet(service, 1)
    async with mirrored(kind(service.address, token=service.token("engine"))) as one:
        await one.synced()
        await one.done(one.mirror.close)
        await one.done(one.mirror.close)
        await asyncio.wait_for(one.done(one.mirror.join), 30)
        assert len(one.mirror.view) == 1
        assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("nofx-mirror")]
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("nofx-mirror")]
        await until(lambda: not service.app.feed.readers)
        with pytest.raises(RuntimeError, match="started once"):
            one.mirror.start()
    async with mirrored(kind(f"unix:{service.data_dir}/nobody", token="t")) as early:
        await early.done(early.mirror.close)
        with pytest.raises(RuntimeError, match="closed before it held anything"):
            await early.synced()


async def test_no_secret_is_shown(service: RunningService, held: Mirrored, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "nofx_grpc.client")
    await service.app.server.stop(0)
    await until(lambda: held.mirror.trouble is not None)
    shown = [held.mirror, held.mirror.view, *vars(held.mirror).values(), held.mirror.trouble, caplog.text]
    texts = [repr(each) + str(each) for each in shown]
    for secret in (MODEL_KEY, EXCHANGE_KEY, EXCHANGE_SECRET, service.token("engine")):
        assert [text for text in texts if secret in text] == []
    assert "configurations are not followed at the moment" in caplog.text


@pytest.mark.parametrize("silence", [0, -1.0, float("nan"), float("inf")])
def test_a_silence_that_is_none_is_refused(silence: float) -> None:
    with Client(token="t") as nofx, pytest.raises(ClientSettingsError, match="silence is"):
        TraderConfigMirror(nofx, silence=silence)
