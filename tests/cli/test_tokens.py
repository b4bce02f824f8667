"""`nofx-grpc token create`: a token without a server, for whoever has the master key."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from os import getuid
from pathlib import Path
from typing import Any

import grpc
import pytest

from nofx_grpc.cli.tokens import parse_period
from nofx_grpc.v1 import admin_pb2, admin_pb2_grpc, exchanges_pb2, exchanges_pb2_grpc, users_pb2, users_pb2_grpc
from tests.support.processes import environment, run, serving


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """The environment of a store that was made already."""
    made = environment(tmp_path / "data")
    assert run("migrate", env=made).returncode == 0
    return made


def rows(env: dict[str, str], sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(Path(env["NOFX_GRPC_DATA_DIR"]) / "nofx.db")) as connection:
        return connection.execute(sql).fetchall()


@pytest.mark.e2e
async def test_a_token_works_at_once_in_the_server_that_runs(env: dict[str, str], tmp_path: Path) -> None:
    with serving(env, tmp_path / "log") as server:
        made = run("token", "create", "--role", "admin", "--reveal", env=env)
        assert made.returncode == 0 and made.stdout.startswith("nofx_") and made.stdout.count("\n") == 1
        async with server.channel() as channel:
            stub: Any = exchanges_pb2_grpc.ExchangesStub(channel)
            request = exchanges_pb2.AccessExchangeCredentialsRequest(user_id="default", id="binance")
            metadata = (("authorization", f"Bearer {made.stdout.strip()}"),)
            assert (await stub.AccessExchangeCredentials(request, metadata=metadata)).revision > 0
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.AccessExchangeCredentials(request, metadata=server.authorization())
            assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.e2e
async def test_a_token_limited_to_one_user(env: dict[str, str], tmp_path: Path) -> None:
    made = json.loads(run("token", "create", "--role=admin", "--user-id=default", "--json", env=env).stdout)
    metadata = (("authorization", f"Bearer {made['secret']}"),)
    with serving(env, tmp_path / "log") as server:
        async with server.channel() as channel:
            users: Any = users_pb2_grpc.UsersStub(channel)
            assert (await users.GetUser(users_pb2.GetUserRequest(id="default"), metadata=metadata)).id == "default"
            admin: Any = admin_pb2_grpc.AdminStub(channel)
            await admin.ListTokens(admin_pb2.ListTokensRequest(), metadata=server.authorization())
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await admin.ListTokens(admin_pb2.ListTokensRequest(), metadata=metadata)
            assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.e2e
def test_the_report(env: dict[str, str]) -> None:
    made = run("token", "create", "--role=engine", "--name=engine 1", "--expires-in=30d", "--json", env=env)
    report = json.loads(made.stdout)
    assert report.pop("id") and report.pop("secret").startswith("nofx_")
    expires = datetime.fromisoformat(report.pop("expire_time"))
    assert timedelta(days=29, hours=23) < expires - datetime.now(UTC) <= timedelta(days=30)
    assert report == {
        "role": "engine",
        "display_name": "engine 1",
        "user_id": "",
        "reveal": False,
        "reveal_system": False,
    }


@pytest.mark.e2e
def test_it_is_on_the_record_and_only_the_hash_is_stored(env: dict[str, str]) -> None:
    made = json.loads(run("token", "create", "--role=viewer", "--json", env=env).stdout)
    columns = "principal, peer, method, resources, outcome"
    method = "/nofx_grpc.v1.Admin/CreateToken"
    expected = (f"local:{getuid()}", "local", method, f"create token /{made['id']}", "OK")
    assert rows(env, f"SELECT {columns} FROM audit_log") == [expected]  # noqa: S608  # our own columns
    for path in Path(env["NOFX_GRPC_DATA_DIR"]).iterdir():
        assert path.is_dir() or made["secret"].encode() not in path.read_bytes()


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("arguments", "code", "reason", "text"),
    [
        (["--role=viewer", "--reveal"], 1, "INVALID_ARGUMENT", "token.reveal: is for the role ROLE_ADMIN only"),
        (["--role=viewer", "--user-id=nobody"], 1, "NOT_FOUND", "no user with id 'nobody'"),
        (["--role=viewer", "--name="], 1, "INVALID_ARGUMENT", "token.display_name: "),
    ],
)
def test_what_is_refused(env: dict[str, str], arguments: list[str], code: int, reason: str, text: str) -> None:
    refused = run("token", "create", "--json", *arguments, env=env)
    assert refused.returncode == code and refused.stderr.startswith(f"nofx-grpc: {text}")
    assert json.loads(refused.stdout)["error"]["reason"] == reason
    assert rows(env, "SELECT count(*) FROM tokens") == [(4,)]


@pytest.mark.e2e
def test_a_store_is_not_made_by_the_way(tmp_path: Path) -> None:
    refused = run("token", "create", "--role=admin", "--json", env=environment(tmp_path / "data"))
    error = json.loads(refused.stdout)["error"]
    assert (
        refused.returncode == 3 and error["reason"] == "START_ERROR" and "there is no database yet" in error["message"]
    )
    assert not (tmp_path / "data").exists()


@pytest.mark.e2e
def test_without_the_master_key_there_is_no_token(env: dict[str, str]) -> None:
    refused = run("token", "create", "--role=admin", env=env | {"DATA_ENCRYPTION_KEY": "guess"})
    assert refused.returncode == 3 and refused.stdout == ""
    assert rows(env, "SELECT count(*) FROM tokens") == [(4,)]


@pytest.mark.e2e
@pytest.mark.parametrize("arguments", [[], ["--role=root"], ["--role=admin", "--expires-in=soon"]])
def test_wrong_use(env: dict[str, str], arguments: list[str]) -> None:
    refused = run("token", "create", *arguments, env=env)
    assert refused.returncode == 2 and refused.stderr.startswith("Usage: nofx-grpc token create ")


@pytest.mark.parametrize(
    ("text", "period"),
    [("15m", timedelta(minutes=15)), ("12h", timedelta(hours=12)), ("30d", timedelta(30)), ("2w", timedelta(14))],
)
def test_periods(text: str, period: timedelta) -> None:
    assert parse_period(text) == period


@pytest.mark.parametrize("text", ["", "30", "d", "0d", "-1d", "1.5d", "1y", " 1d", "1d1h", "9999999d", "١d"])
def test_what_is_no_period(text: str) -> None:
    with pytest.raises(ValueError, match="expected a number and m, h, d or w"):
        parse_period(text)
