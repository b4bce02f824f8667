"""`nofx-grpc keys rewrap`: a new master key for the keyring, all or nothing; secrets and servers stay as they are."""

import asyncio
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest

from nofx_grpc.v1 import exchanges_pb2, keys_pb2
from tests.support.processes import ServerProcess, environment, run, serving
from tests.support.service import Client, new_postgresql, refused

OLD = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="
NEW = "YWJjZGVmR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="
SECRET = "plaintext-1f77"
Source = Callable[[Path], tuple[list[str], dict[str, str]]]


def in_file(tmp_path: Path) -> tuple[list[str], dict[str, str]]:
    path = tmp_path / "new.key"
    path.write_text(NEW + "\n")
    path.chmod(0o600)
    return ["--new-key-file", str(path)], {}


def by_command(tmp_path: Path) -> tuple[list[str], dict[str, str]]:
    return ["--new-key-command", f"echo {NEW}"], {}


def in_environment(tmp_path: Path) -> tuple[list[str], dict[str, str]]:
    return [], {"NEW_DATA_ENCRYPTION_KEY": NEW}


def made(tmp_path: Path, key: str = OLD) -> dict[str, str]:
    """The environment of a store with a secret."""
    env = environment(tmp_path / "data", DATA_ENCRYPTION_KEY=key)
    with serving(env, tmp_path / "log") as server:
        asyncio.run(store_secret(server))
        assert server.stop() == 0
    return env


async def store_secret(server: ServerProcess) -> None:
    client = Client(server.address, server.token("admin"))
    exchange = exchanges_pb2.Exchange(user_id="default", id="binance", api_key=SECRET)
    await client.exchanges.UpdateExchange(exchanges_pb2.UpdateExchangeRequest(exchange=exchange))
    await client.close()


async def revealed(server: ServerProcess) -> str:
    client = Client(server.address, server.token("engine"))
    request = exchanges_pb2.AccessExchangeCredentialsRequest(user_id="default", id="binance")
    answer = await client.exchanges.AccessExchangeCredentials(request)
    await client.close()
    return answer.credentials.api_key


def serves_the_secret(env: dict[str, str], tmp_path: Path) -> bool:
    with serving(env, tmp_path / "log") as server:
        found = asyncio.run(revealed(server))
        assert server.stop() == 0
    return found == SECRET


def keyring(tmp_path: Path) -> list[Any]:
    with closing(sqlite3.connect(tmp_path / "data/nofx.db")) as connection:
        rows = connection.execute("SELECT * FROM keyring ORDER BY id").fetchall()
        return [rows, connection.execute("SELECT * FROM master_key").fetchall()]


@pytest.mark.parametrize("source", [in_file, by_command, in_environment])
def test_the_new_key_opens_everything_and_the_old_one_nothing(tmp_path: Path, source: Source) -> None:
    env = made(tmp_path)
    arguments, named = source(tmp_path)
    done = run("keys", "rewrap", *arguments, "--json", env=env | named)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"keys": 3} and NEW not in done.stdout + done.stderr
    assert serves_the_secret(env | {"DATA_ENCRYPTION_KEY": NEW}, tmp_path)
    refused = run("serve", env=env)
    assert refused.returncode == 3 and "the master key does not open this database's keyring" in refused.stderr


@pytest.mark.parametrize(("old", "new"), [("an old horse", NEW), (OLD, "a new horse"), ("an old horse", "a new horse")])
def test_passphrases_are_keys_too(tmp_path: Path, old: str, new: str) -> None:
    env = made(tmp_path, old)
    before = keyring(tmp_path)[1]
    assert run("keys", "rewrap", env=env | {"NEW_DATA_ENCRYPTION_KEY": new}).returncode == 0
    assert keyring(tmp_path)[1] != before, "a new salt"
    assert serves_the_secret(env | {"DATA_ENCRYPTION_KEY": new}, tmp_path)


def test_it_is_on_record(tmp_path: Path) -> None:
    env = made(tmp_path)
    assert run("keys", "rewrap", env=env | {"NEW_DATA_ENCRYPTION_KEY": NEW}).returncode == 0
    with closing(sqlite3.connect(tmp_path / "data/nofx.db")) as connection:
        query = "SELECT principal, resources, outcome FROM audit_log WHERE method = 'nofx-grpc keys rewrap'"
        ((principal, *rest),) = connection.execute(query).fetchall()
    assert principal.startswith("local:") and rest == ["rewrap key /all keys", "OK"]


@pytest.mark.parametrize(
    ("change", "arguments", "complaint"),
    [
        ({"DATA_ENCRYPTION_KEY": "wrong"}, [], "the master key does not open this database's keyring"),
        ({"NEW_DATA_ENCRYPTION_KEY": OLD}, [], "is the one that the keyring is wrapped for already"),
        ({"NEW_DATA_ENCRYPTION_KEY": f" {OLD}\n"}, [], "is the one that the keyring is wrapped for already"),
        ({"NEW_DATA_ENCRYPTION_KEY": ""}, [], "given are none"),
        ({"NEW_DATA_ENCRYPTION_KEY": "  "}, [], "the master key is empty"),
        ({}, ["--new-key-command", "echo x"], "given are --new-key-command and NEW_DATA_ENCRYPTION_KEY"),
        ({"NEW_DATA_ENCRYPTION_KEY": ""}, ["--new-key-file", "/nowhere/key"], "there is no file /nowhere/key"),
        ({"NEW_DATA_ENCRYPTION_KEY": ""}, ["--new-key-command", "false"], "ended with exit code 1"),
    ],
)
def test_what_cannot_be_done_changes_nothing(
    tmp_path: Path, change: dict[str, str], arguments: list[str], complaint: str
) -> None:
    env = environment(tmp_path / "data", DATA_ENCRYPTION_KEY=OLD)
    assert run("migrate", env=env).returncode == 0
    before = keyring(tmp_path)
    refused = run("keys", "rewrap", *arguments, env=env | {"NEW_DATA_ENCRYPTION_KEY": NEW} | change)
    assert refused.returncode == 3 and complaint in refused.stderr
    assert keyring(tmp_path) == before
    assert run("migrate", env=env).returncode == 0


def test_there_must_be_a_store(tmp_path: Path) -> None:
    env = environment(tmp_path / "data", DATA_ENCRYPTION_KEY=OLD, NEW_DATA_ENCRYPTION_KEY=NEW)
    refused = run("keys", "rewrap", env=env)
    assert refused.returncode == 3 and "there is no database of this release" in refused.stderr
    assert not (tmp_path / "data/nofx.db").exists()


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_running_server_goes_on_but_leaves_the_keyring_alone(tmp_path: Path, engine: str) -> None:
    """What it would wrap for the old master key, the new one would not open."""
    if engine == "postgresql":
        with new_postgresql(tmp_path / "data") as where:
            old = (tmp_path / "data/master.key").read_text()
            rewrap_beside_a_server(tmp_path, environment(tmp_path / "data") | where, old)
    else:
        assert run("migrate", env=environment(tmp_path / "data")).returncode == 0
        rewrap_beside_a_server(tmp_path, environment(tmp_path / "data"), (tmp_path / "data/master.key").read_text())


def rewrap_beside_a_server(tmp_path: Path, env: dict[str, str], old: str) -> None:
    with serving(env, tmp_path / "log") as server:
        asyncio.run(store_secret(server))
        done = run("keys", "rewrap", env=env | {"NEW_DATA_ENCRYPTION_KEY": NEW})
        assert done.returncode == 0, done.stderr
        assert asyncio.run(revealed(server)) == SECRET
        asyncio.run(store_secret(server))
        asyncio.run(assert_no_rotation(server))
        with serving(env | {"DATA_ENCRYPTION_KEY": NEW}, tmp_path / "second.log") as second:
            asyncio.run(rotate(second))
            asyncio.run(store_secret(second))
            assert asyncio.run(revealed(second)) == SECRET
            asyncio.run(assert_told_to_restart(server))
            assert second.stop() == 0
        assert "keyring_not_opened" in server.log.read_text()
    assert old.strip() not in server.log.read_text()


async def rotate(server: ServerProcess) -> None:
    client = Client(server.address, server.token("admin"))
    await client.admin.RotateKey(keys_pb2.RotateKeyRequest())
    await client.close()


async def assert_no_rotation(server: ServerProcess) -> None:
    client = Client(server.address, server.token("admin"))
    call = client.admin.RotateKey(keys_pb2.RotateKeyRequest())
    refusal = await refused(call, grpc.StatusCode.FAILED_PRECONDITION, "FAILED_PRECONDITION")
    assert "wrapped for another master key" in refusal.text
    await client.close()


async def assert_told_to_restart(server: ServerProcess) -> None:
    client = Client(server.address, server.token("engine"))
    request = exchanges_pb2.AccessExchangeCredentialsRequest(user_id="default", id="binance")
    call = client.exchanges.AccessExchangeCredentials(request)
    refusal = await refused(call, grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    assert "must be restarted with that one" in refusal.text
    await client.close()
