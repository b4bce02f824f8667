"""A server that is killed while it seals everything anew loses nothing, and the next one goes on where it was."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from nofx_grpc.app import open_database, utc_now
from nofx_grpc.crypto.envelope import Envelope, Location
from nofx_grpc.services.keys import PAGE
from nofx_grpc.settings import Settings
from nofx_grpc.store import exchanges, users
from nofx_grpc.store.engine import Connection
from nofx_grpc.v1 import exchanges_pb2, keys_pb2
from tests.store.support import exchange, user
from tests.support.processes import ServerProcess, environment, serving
from tests.support.sealed import list_keys, reencrypt, retire, rotate
from tests.support.service import Client, new_postgresql

pytestmark = pytest.mark.e2e

USERS = 20 * PAGE
KILLS = 3


@pytest.fixture
def env(engine: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a store with a secret of each of many users."""
    with where(engine, tmp_path / "data") as named:
        env = environment(tmp_path / "data") | named
        asyncio.run(fill(env))
        yield env


@contextmanager
def where(engine: str, data: Path) -> Iterator[dict[str, str]]:
    if engine == "sqlite":
        yield {}
        return
    with new_postgresql(data) as named:
        yield named


async def fill(env: dict[str, str]) -> None:
    db, keys = open_database(Settings.load(None, env), utc_now)
    db.open()
    for start in range(0, USERS, PAGE):
        await db.write(make_users, keys.envelope, range(start, start + PAGE))
    await db.close()


def make_users(connection: Connection, envelope: Envelope, numbers: range) -> None:
    for number in numbers:
        id = f"u{number:05}"
        users.resource.create(connection, user(id))
        sealed = envelope.seal(f"secret of {id}", Location("exchanges", "api_key", id, "binance"))
        exchanges.resource.create(connection, exchange("binance", id, api_key=sealed))


async def reencrypt_until_killed(server: ServerProcess, messages: int) -> int:
    """Kill the server when it has told so often how far it is; how much it said was left at the beginning."""
    client = Client(server.address, server.token("admin"))
    stream = client.admin.Reencrypt(keys_pb2.ReencryptRequest())
    total, number = 0, 0
    try:
        async for message in stream:
            total = total or message.total_count
            number += 1
            if number == messages:
                os.kill(server.process.pid, signal.SIGKILL)
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.UNAVAILABLE
    await client.close()
    return total


async def finish(server: ServerProcess, old: str, new: str) -> int:
    """Do what is left, retire the old key, and look at all secrets; how much was left."""
    client, engine = Client(server.address, server.token("admin")), Client(server.address, server.token("engine"))
    messages = await reencrypt(client)
    await retire(client, old)
    left = {id: key.value_count for id, key in (await list_keys(client)).items() if key.value_count}
    assert left.keys() == {new} and left[new] > USERS
    for number in range(0, USERS, 7):
        request = exchanges_pb2.AccessExchangeCredentialsRequest(user_id=f"u{number:05}", id="binance")
        answer = await engine.exchanges.AccessExchangeCredentials(request)
        assert answer.credentials.api_key == f"secret of u{number:05}"
    await client.close()
    await engine.close()
    assert messages[-1].unreadable_count == 0
    return messages[0].total_count


async def rotated(server: ServerProcess) -> tuple[str, str]:
    client = Client(server.address, server.token("admin"))
    keys = await rotate(client)
    await client.close()
    return keys


def test_it_is_taken_up_where_a_kill_has_ended_it(env: dict[str, str], tmp_path: Path) -> None:
    left: list[int] = []
    old = new = ""
    for kill in range(KILLS):
        with serving(env, tmp_path / "log") as server:
            if not old:
                old, new = asyncio.run(rotated(server))
            left.append(asyncio.run(reencrypt_until_killed(server, 3 + kill)))
            assert server.wait() == -signal.SIGKILL
    with serving(env, tmp_path / "log") as server:
        left.append(asyncio.run(finish(server, old, new)))
        assert server.stop() == 0
    print(f"left before each run: {left}")
    assert left == sorted(left, reverse=True) and len(set(left)) == len(left), "each run does what is left"
    assert left[0] > USERS and 0 < left[-1] < USERS


def test_two_servers_share_one_database(env: dict[str, str], tmp_path: Path) -> None:
    """What one rotates, seals anew and retires, the other takes up without a restart."""
    with serving(env, tmp_path / "one.log") as one, serving(env, tmp_path / "two.log") as two:
        asyncio.run(shared(one, two))
        assert (one.stop(), two.stop()) == (0, 0)


async def shared(one: ServerProcess, two: ServerProcess) -> None:
    first, second = Client(one.address, one.token("admin")), Client(two.address, two.token("admin"))
    engines = [Client(server.address, server.token("engine")) for server in (one, two)]
    request = exchanges_pb2.AccessExchangeCredentialsRequest(user_id="u00001", id="binance")
    for rotating, writing in ((first, second), (second, first)):
        for engine in engines:
            await engine.exchanges.AccessExchangeCredentials(request)
        old, new = await rotate(rotating)
        changed = exchanges_pb2.Exchange(user_id="u00001", id="binance", api_key=f"since {new}")
        await writing.exchanges.UpdateExchange(exchanges_pb2.UpdateExchangeRequest(exchange=changed))
        await asyncio.gather(*(reencrypt(client) for client in (first, second)))
        await retire(writing, old)
        for engine in engines:
            answer = await engine.exchanges.AccessExchangeCredentials(request)
            assert answer.credentials.api_key == f"since {new}"
    for client in (first, second, *engines):
        await client.close()
