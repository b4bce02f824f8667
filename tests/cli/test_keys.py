"""`nofx-grpc keys` over a running server, as an operator rotates a key from a terminal."""

import asyncio
import json
import os
import pty
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nofx_grpc.cli import keys as keys_module
from nofx_grpc.v1 import exchanges_pb2
from tests.support.processes import COMMAND, ServerProcess, environment, run, serving
from tests.support.service import Client


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server whose exchange has a secret."""
    with serving(environment(tmp_path / "data"), tmp_path / "log") as running:
        asyncio.run(with_secret(running))
        yield running


async def with_secret(server: ServerProcess) -> None:
    client = Client(server.address, server.token("admin"))
    exchange = exchanges_pb2.Exchange(user_id="default", id="binance", api_key="plaintext-77c1")
    await client.exchanges.UpdateExchange(exchanges_pb2.UpdateExchangeRequest(exchange=exchange))
    await client.close()


def env_of(server: ServerProcess) -> dict[str, str]:
    return dict(server.env) | {"NOFX_GRPC_ADDRESS": server.address}


def keys(server: ServerProcess, *arguments: str, code: int = 0) -> Any:
    """The report of `nofx-grpc keys ... --json`."""
    done = run("keys", *arguments, "--json", env=env_of(server))
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def data_keys(server: ServerProcess) -> dict[str, tuple[str, int]]:
    found = keys(server, "list")["keys"]
    return {key["id"]: (key["state"], key["values"]) for key in found if key["purpose"] == "data"}


def test_a_key_is_rotated_and_retired(server: ServerProcess) -> None:
    ((old, (state, number)),) = data_keys(server).items()
    assert state == "primary" and number >= 2
    rotated = keys(server, "rotate")
    new = rotated["key"]
    assert rotated == {"key": new, "previous": old}
    refusal = keys(server, "retire", old, code=1)["error"]
    assert refusal["reason"] == "IN_USE" and "exchanges (1)" in refusal["message"]
    number += 1  # the answer to `rotate`, kept for its request id, was sealed before the new key was there
    assert keys(server, "reencrypt") == {"key": new, "resealed": number, "unreadable": []}
    assert data_keys(server) == {old: ("decrypt_only", 0), new: ("primary", number)}
    assert keys(server, "retire", old) == {"retired": old}
    assert data_keys(server) == {new: ("primary", number)}


def test_a_report_says_what_each_key_is(server: ServerProcess) -> None:
    found = {key["purpose"]: key for key in keys(server, "list")["keys"]}
    assert sorted(found) == ["audit", "data", "fingerprint"]
    assert found["data"]["algorithm"] == "aes-256-gcm" and found["data"]["create_time"].endswith("Z")
    assert {"table": "exchanges", "column": "api_key", "values": 1} in found["data"]["uses"]
    assert (found["audit"]["values"], found["audit"]["uses"], found["audit"]["state"]) == (0, [], "primary")


def test_people_are_told_in_words(server: ServerProcess) -> None:
    listed = run("keys", "list", env=env_of(server) | {"COLUMNS": "200"})
    assert listed.returncode == 0 and "exchanges.api_key 1" in listed.stdout and "primary" in listed.stdout
    rotated = run("keys", "rotate", env=env_of(server))
    new, old = rotated.stdout.split()[0], rotated.stdout.split(",")[1].split()[0]
    assert "run 'nofx-grpc keys reencrypt'" in rotated.stdout
    done = run("keys", "reencrypt", env=env_of(server))
    assert done.stdout.endswith(f"values are sealed by {new} now\n") and done.stderr == ""
    assert run("keys", "retire", old, env=env_of(server)).stdout == f"{old} is gone\n"


def test_a_terminal_shows_how_far_it_is(server: ServerProcess) -> None:
    run("keys", "rotate", env=env_of(server))
    mine, its = pty.openpty()
    done = subprocess.run(
        [COMMAND, "keys", "reencrypt"], env=env_of(server), stdout=subprocess.PIPE, stderr=its, check=True, timeout=60
    )
    os.close(its)
    shown = os.read(mine, 100_000).decode()
    os.close(mine)
    assert "re-encrypt" in shown and "values are sealed by" in done.stdout.decode()


def test_an_unreadable_value_is_named(server: ServerProcess) -> None:
    moved = "UPDATE exchanges SET secret_key = api_key WHERE id = 'binance' AND user_id = 'default'"
    with closing(sqlite3.connect(server.data_dir / "nofx.db")) as connection:
        connection.execute(moved)
        connection.commit()
    old = keys(server, "rotate")["previous"]
    done = run("keys", "reencrypt", env=env_of(server))
    assert "1 do not open" in done.stdout and f"exchanges.secret_key of default binance: sealed by {old}" in done.stdout
    assert keys(server, "reencrypt")["unreadable"] == [
        {"table": "exchanges", "column": "secret_key", "user_id": "default", "row_id": "binance", "key_id": old}
    ]


def test_only_an_admin_may(server: ServerProcess) -> None:
    env = env_of(server) | {"NOFX_GRPC_TOKEN": server.token("gateway")}
    for arguments in (("list",), ("rotate",), ("reencrypt",), ("retire", "00000000")):
        refused = run("keys", *arguments, env=env)
        assert refused.returncode == 1 and "needs the permission ADMIN" in refused.stderr


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    env = environment(tmp_path) | {"NOFX_GRPC_ADDRESS": "127.0.0.1:1", "NOFX_GRPC_TOKEN": "nofx_x"}
    refused = run("keys", "list", env=env)
    assert refused.returncode == 1 and refused.stderr.startswith("nofx-grpc: ")


def test_a_list_of_keys_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    use = {"table": "user_signal_sources", "column": "coin_pool_url", "values": 1_000_000}
    key = {"id": "50a23b32", "purpose": "fingerprint", "state": "decrypt_only", "create_time": "2026-01-02T03:04:05Z"}
    keys_module.show([key | {"values": 1_000_000, "uses": []}, key | {"purpose": "data", "values": 1, "uses": [use]}])
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert "50a23b32 seals user_signal_sources.coin_pool_url 1000000" in shown.splitlines()
    assert "2026-01-02" in shown
