"""Several servers over one database share its keys: none seals by a key that another has replaced, whatever happens.

Two servers in this process share nothing but the database; `test_keys_survive_kills` has real ones.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from nofx_grpc.v1 import exchanges_pb2
from tests.support.clock import FakeClock
from tests.support.mirrors import Mirror
from tests.support.sealed import MODEL, WHOLE, furnish, key_ids, list_keys, reencrypt, retire, rotate, stored
from tests.support.service import Client, RunningService, running_service

WRITERS = 8
ROUNDS = 3


@pytest.fixture
async def other(
    service: RunningService, tmp_path: Path, clock: FakeClock, database_env: dict[str, str]
) -> AsyncIterator[RunningService]:
    """A second server over the database of `service`."""
    async with running_service(tmp_path / "data", clock=clock, env=database_env) as running:
        yield running


async def replace_key(client: Client) -> tuple[str, str]:
    """A whole rotation: the old key is retired at its end."""
    old, new = await rotate(client)
    await reencrypt(client)
    await retire(client, old)
    return old, new


def exchange(user_id: str, secret: str) -> exchanges_pb2.Exchange:
    return exchanges_pb2.Exchange(user_id=user_id, id="binance", name="B", type="cex", api_key=secret)


async def create(client: Client, user_id: str, secret: str) -> None:
    request = exchanges_pb2.CreateExchangeRequest(
        user_id=user_id, exchange_id="binance", exchange=exchange(user_id, secret), request_id=f"{user_id}-{secret}"
    )
    await client.exchanges.CreateExchange(request)


async def update(client: Client, user_id: str, secret: str) -> None:
    await client.exchanges.UpdateExchange(
        exchanges_pb2.UpdateExchangeRequest(
            exchange=exchanges_pb2.Exchange(user_id=user_id, id="binance", api_key=secret)
        )
    )


async def reveal(client: Client, user_id: str) -> str:
    request = exchanges_pb2.AccessExchangeCredentialsRequest(user_id=user_id, id="binance")
    return (await client.exchanges.AccessExchangeCredentials(request)).credentials.api_key


def forget_retired(service: RunningService) -> None:
    """Keys that were retired are forgotten at once."""
    keys = service.app.housekeeping.keys
    keys._monotonic = lambda: 1e12
    keys.forget_retired()


async def test_a_rotation_is_taken_up_by_the_other_server(service: RunningService, other: RunningService) -> None:
    scene = await furnish(service)
    assert await scene.revealed(other.client("engine")) == WHOLE
    _, new = await rotate(service.client())
    await update(service.client(), scene.user_id, "by the new key")
    assert await reveal(other.client("engine"), scene.user_id) == "by the new key"
    await update(other.client(), scene.user_id, "by the other")
    assert await reveal(service.client("engine"), scene.user_id) == "by the other"
    assert sorted((await stored(service))["exchanges.api_key"]) == [new]
    assert await list_keys(service.client()) == await list_keys(other.client())


async def test_what_the_other_server_remembers_outlives_the_key(service: RunningService, other: RunningService) -> None:
    """Sealing anew takes no revision: nothing else tells it that what it remembers was sealed by a key that is gone."""
    scene, engine = await furnish(service), other.client("engine")
    assert await scene.revealed(engine) == WHOLE
    revision = await service.revision()
    for _ in range(2):
        await replace_key(service.client())
        assert await service.revision() == revision
        await list_keys(other.client())
        forget_retired(other)
        assert await scene.revealed(engine) == WHOLE


@pytest.mark.timeout(60)
async def test_all_who_read_and_write_at_once_take_up_a_new_key(service: RunningService, other: RunningService) -> None:
    """On PostgreSQL the keyring is waited for on the event loop: whoever reads it must hold up nobody meanwhile."""
    users = [f"u{number}" for number in range(WRITERS)]
    await service.add_users(*users)
    admin, engine = other.client(), other.client("engine")
    for user in users:
        await create(admin, user, "0")
    for round in range(ROUNDS):
        await rotate(service.client())
        revealing = asyncio.gather(*(reveal(engine, user) for user in users))
        await asyncio.gather(*(update(admin, user, f"{round + 1}") for user in users))
        assert set(await revealing) <= {f"{round}", f"{round + 1}"}


@pytest.mark.parametrize("call", ["create", "update"])
async def test_what_was_sealed_before_the_key_was_retired_is_stored_under_the_new_one(
    service: RunningService, other: RunningService, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The other server has sealed a secret, and not yet written it, when its key is rotated away and retired."""
    await service.add_users("ada")
    if call == "update":
        await create(service.client(), "ada", "before")
    write, replaced = other.app.db.write, []

    async def late(fn: Any, *args: Any, **kwargs: Any) -> Any:
        replaced.append(await replace_key(service.client()))
        return await write(fn, *args, **kwargs)

    monkeypatch.setattr(other.app.db, "write", late)
    await {"create": create, "update": update}[call](other.client(), "ada", "sealed early")
    ((_, new),) = replaced
    assert key_ids(await stored(service)) == {new}
    for server in (service, other):
        await list_keys(server.client())
        forget_retired(server)
        assert await reveal(server.client("engine"), "ada") == "sealed early"


async def test_what_can_no_longer_be_sealed_anew_is_not_written(
    service: RunningService, other: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key that a secret was sealed by is forgotten before it is written: the write is refused, nothing is lost."""
    await service.add_users("ada")
    await create(service.client(), "ada", "before")
    write = other.app.db.write

    async def much_too_late(fn: Any, *args: Any, **kwargs: Any) -> Any:
        await replace_key(service.client())
        await list_keys(other.client())
        forget_retired(other)
        return await write(fn, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(other.app.db, "write", much_too_late)
        with pytest.raises(Exception, match="the keys were changed while this was being written"):
            await update(other.client(), "ada", "lost")
    assert await reveal(other.client("engine"), "ada") == "before"
    await update(other.client(), "ada", "again")
    assert await reveal(service.client("engine"), "ada") == "again"


async def test_a_stream_of_configurations_outlives_the_key(service: RunningService, other: RunningService) -> None:
    """It was opened before the key was replaced at the other server; what changes then comes with its secrets."""
    scene = await furnish(service)
    mirror = Mirror(other.client("engine"))
    await mirror.settled(await service.revision())
    for secret in ("first", "second"):
        await replace_key(service.client())
        forget_retired(other)
        await update(service.client(), scene.user_id, secret)
        assert await mirror.settled(await service.revision()) == [scene.trader_id]
        held = mirror.configs[scene.trader_id]
        assert held.exchange_credentials.api_key == secret and held.model_credentials.api_key == MODEL["api_key"]
        assert not held.blockers
    mirror.call.cancel()


async def test_keys_are_replaced_beside_eight_writers(service: RunningService, other: RunningService) -> None:
    """Each writer changes its own secret, at one server or the other: what was answered last is what is there."""
    users = [f"u{number}" for number in range(WRITERS)]
    await service.add_users(*users)
    answered = dict.fromkeys(users, "0")
    clients = [service.client(), other.client()]
    for user in users:
        await create(clients[0], user, "0")
    done = asyncio.Event()

    async def writer(number: int, user: str) -> int:
        count = 0
        while not done.is_set():
            count += 1
            await update(clients[(number + count) % 2], user, f"{count}")
            answered[user] = f"{count}"
        return count

    writing = [asyncio.create_task(writer(number, user)) for number, user in enumerate(users)]
    newest = ""
    for _ in range(ROUNDS):
        for client in clients:
            _, newest = await replace_key(client)
    done.set()
    counts = await asyncio.gather(*writing)
    print(f"{sum(counts)} writes beside {2 * ROUNDS} replaced keys")
    assert key_ids(await stored(service)) == {newest} and min(counts) > ROUNDS
    for server in (service, other):
        await list_keys(server.client())
        forget_retired(server)
        assert {user: await reveal(server.client("engine"), user) for user in users} == answered
