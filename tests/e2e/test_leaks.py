"""No secret that anybody gave to the service, or got from it, is found in its files, logs, errors or metadata."""

import json
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message_factory import GetMessageClass
from pyotp import TOTP

from nofx_grpc.v1 import (
    admin_pb2,
    common_pb2,
    exchanges_pb2,
    models_pb2,
    signal_sources_pb2,
    system_config_pb2,
    traders_pb2,
    users_pb2,
)
from tests.support.leaks import Secrets
from tests.support.observed import ROLES, Caller, Observed, fill
from tests.support.processes import ServerProcess, environment, run, serving
from tests.support.rpcs import METHODS, path_of, permission_of

pytestmark = pytest.mark.e2e

SAMPLE = Path(__file__).parents[1] / "data/nofx-sample"


async def every_rpc_with_secrets_everywhere(caller: Caller) -> None:
    """Whole, damaged and misplaced requests with secrets in them, by everyone: most are refused, which is the point."""
    for name, method in METHODS.items():
        request = GetMessageClass(method.input_type)()
        fill(request, name, caller.observed.secrets)
        whole = request.SerializeToString()
        misplaced = f"misplaced+secret/of/{name}"
        caller.observed.secrets.add(misplaced)
        unknown_field = b"\xca\x3e" + bytes([len(misplaced)]) + misplaced.encode()
        for role in ROLES:
            await caller.raw(method, whole, role)
        await caller.raw(method, whole + unknown_field)
        await caller.raw(method, whole[:-3])
        await caller.raw(method, whole.replace(b"leak/", b"\xff\xfe\xfd\xfc/"))
        await caller.raw(method, whole, authorization=f"Bearer {misplaced}")
        await caller.raw(method, whole, authorization=misplaced)


async def resources_with_secrets(caller: Caller) -> None:
    """A trader whose every secret is set, changed, refused and revealed."""
    given = {name: f"stored/{name}+9f8e7d6c" for name in ("api_key", "secret_key", "aster_private_key")}
    passwords = [f"url+password.{n}" for n in range(4)]
    queries = [f"url-query.{n}-5a5a" for n in range(4)]
    urls = [f"https://user:{p}@host.example/path?auth={q}" for p, q in zip(passwords, queries, strict=True)]
    caller.observed.secrets.update(given.values(), passwords, queries)
    model = models_pb2.Model(name="M", provider="qwen", enabled=True, api_key=given["api_key"], custom_api_url=urls[0])
    created_model = models_pb2.CreateModelRequest(user_id="default", model_id="stored", model=model, request_id="r-1")
    exchange = exchanges_pb2.Exchange(name="E", type="cex", enabled=True, **given)  # type: ignore[arg-type]  # names of fields
    created = exchanges_pb2.CreateExchangeRequest(user_id="default", exchange_id="stored", exchange=exchange)
    source = signal_sources_pb2.SignalSource(user_id="default", coin_pool_url=urls[1], oi_top_url=urls[2])
    trader = traders_pb2.Trader(name="T", ai_model_id="stored", exchange_id="stored", initial_balance=1)
    for _ in range(2):  # the second time the first answer is repeated, or the twin refused
        await caller("Models.CreateModel", created_model)
        await caller("Exchanges.CreateExchange", created)
        await caller("SignalSources.SetSignalSource", signal_sources_pb2.SetSignalSourceRequest(signal_source=source))
        request = traders_pb2.CreateTraderRequest(user_id="default", trader_id="stored", trader=trader)
        await caller("Traders.CreateTrader", request)
    caller.observed.secrets.add("changed/secret_key+1")
    changed = exchanges_pb2.Exchange(user_id="default", id="stored", secret_key="changed/secret_key+1", type="dex")
    for mask in (["secret_key"], ["secret_key", "type"], ["nonsense"], []):
        update = exchanges_pb2.UpdateExchangeRequest(exchange=changed, update_mask=FieldMask(paths=mask))
        await caller("Exchanges.UpdateExchange", update)
    revealed = await caller(
        "Traders.GetTraderConfig", traders_pb2.GetTraderConfigRequest(user_id="default", trader_id="stored"), "engine"
    )
    assert revealed.exchange_credentials.secret_key == "changed/secret_key+1", "the secrets did go in"
    assert revealed.model_credentials.custom_api_url == urls[0]
    assert revealed.signal_source_credentials.oi_top_url == urls[2]


async def settings_with_secrets(caller: Caller) -> None:
    secret = "jwt+secret/" + "a1b2c3d4" * 4
    file_secret, url_secret = "file+" + secret, "pool+password.77"
    caller.observed.secrets.update([secret, file_secret, url_secret])
    first = await caller(
        "SystemConfig.AccessSystemSecret", system_config_pb2.AccessSystemSecretRequest(key="jwt_secret"), "gateway"
    )
    caller.observed.secrets.add(first.value)
    settings = [
        system_config_pb2.ConfigSetting(key="jwt_secret", value=secret),
        system_config_pb2.ConfigSetting(
            key="coin_pool_api_url", value=f"https://u:{url_secret}@host/?auth={url_secret}"
        ),
    ]
    assert await caller("SystemConfig.SetSystemConfig", system_config_pb2.SetSystemConfigRequest(settings=settings))
    content = json.dumps({"jwt_secret": file_secret}).encode()
    for damaged in (content, content[:-1], content + b"x"):
        await caller("SystemConfig.ImportConfigFile", system_config_pb2.ImportConfigFileRequest(content=damaged))
    stored = await caller(
        "SystemConfig.AccessSystemSecret", system_config_pb2.AccessSystemSecretRequest(key="jwt_secret"), "gateway"
    )
    assert stored.value in {secret, file_secret}


async def people_with_secrets(caller: Caller) -> None:
    """Somebody registers, logs in, mistypes, changes the password and the app."""
    first, second, wrong, set_ = (f"pass+word/{n}" for n in ("first", "second", "wrong", "set"))
    caller.observed.secrets.update([first, second, wrong, set_])
    email = "ann@example.com"
    registered = await caller(
        "Users.RegisterUser", users_pb2.RegisterUserRequest(email=email, password=first), "gateway"
    )
    caller.observed.secrets.add(registered.otp_secret)
    id, totp, now = registered.user.id, TOTP(registered.otp_secret), time.time()
    early, right, late = (totp.at(datetime.fromtimestamp(now + shift, UTC)) for shift in (-30, 0, 30))
    caller.observed.codes.update([early, right, late])
    complete = users_pb2.CompleteRegistrationRequest(user_id=id, otp_code=early)
    assert await caller("Users.CompleteRegistration", complete, "gateway")
    for password, code in ((wrong, right), (first, "000000")):
        request = users_pb2.AuthenticateRequest(email=email, password=password, otp_code=code)
        assert await caller("Users.Authenticate", request, "gateway") is None
    challenged = await caller(
        "Users.Authenticate", users_pb2.AuthenticateRequest(email=email, password=first), "gateway"
    )
    token = challenged.otp_challenge.login_token
    caller.observed.secrets.add(token)
    for code in ("000000", right):
        await caller("Users.VerifyOtp", users_pb2.VerifyOtpRequest(login_token=token, otp_code=code), "gateway")
    change = users_pb2.ChangePasswordRequest(user_id=id, old_password=first, new_password=second, otp_code=late)
    for _ in range(2):
        await caller("Users.ChangePassword", change, "gateway")
    await caller("Users.SetPassword", users_pb2.SetPasswordRequest(user_id=id, password=set_))
    reset = await caller("Users.ResetOtp", users_pb2.ResetOtpRequest(user_id=id))
    caller.observed.secrets.add(reset.otp_secret)


async def tokens(caller: Caller) -> None:
    token = admin_pb2.Token(display_name="t", role=common_pb2.ROLE_VIEWER)
    request = admin_pb2.CreateTokenRequest(token=token, request_id="t-1")
    for _ in range(2):
        created = await caller("Admin.CreateToken", request)
        if created is not None and created.secret:
            caller.observed.secrets.add(created.secret)


def bootstrap_secrets(data: Path) -> set[str]:
    return {(data / "tokens" / role).read_text().strip() for role in ROLES} | {
        (data / "master.key").read_text().strip()
    }


def hashes(data: Path) -> set[str]:
    """What is kept of passwords, and may be in the database only."""
    with sqlite3.connect(data / "nofx.db") as database:
        return {row[0] for row in database.execute("SELECT password_hash FROM users WHERE password_hash <> ''")}


def audit_columns(data: Path) -> dict[str, bytes]:
    """What the audit log holds, by column."""
    with sqlite3.connect(data / "nofx.db") as database:
        cursor = database.execute("SELECT * FROM audit_log")
        names = [column[0] for column in cursor.description]
        rows = cursor.fetchall()
    texts = [[value.hex() if isinstance(value, bytes) else str(value) for value in row] for row in rows]
    return {name: "\n".join(column).encode() for name, column in zip(names, zip(*texts, strict=True), strict=True)}


async def test_no_secret_leaks_whatever_is_called(tmp_path: Path) -> None:
    data, observed = tmp_path / "data", Observed()
    with serving(environment(data, log_level="debug", login_floor_ms="0"), tmp_path / "log") as server:
        caller = Caller(server, observed)
        for story in (
            resources_with_secrets,
            settings_with_secrets,
            people_with_secrets,
            tokens,
            every_rpc_with_secrets_everywhere,
        ):
            await story(caller)
        await caller.close()
        observed.secrets |= bootstrap_secrets(data)
        kept = hashes(data)
        assert kept and len(observed.secrets) > 60
        secrets = Secrets(observed.secrets)
        assert secrets.found_in_files(data) == [], "while it runs, write-ahead log and all"
        assert server.stop() == 0
        assert server.process.stdout is not None
        observed.say("the output", "\n".join([*server.printed[1:], server.process.stdout.read()]).encode())
    observed.say("the log", (tmp_path / "log").read_bytes())
    assert secrets.found_in_files(data) == []
    columns = audit_columns(data)
    on_record = set(columns["method"].decode().split())
    asked = {path_of(method) for method in METHODS.values() if permission_of(method) != "READ"}
    assert asked - on_record == set(), "each of these was refused to somebody at least"
    for name, content in columns.items():
        observed.say(f"the column {name} of the audit log", content)
    assert Secrets(observed.secrets | kept).found_in_all(observed.said) == []
    code = re.compile(rb"(?<![0-9a-f.])(%b)(?![0-9a-f])" % "|".join(observed.codes).encode())
    assert [where for where, content in observed.said.items() if code.search(content)] == []


@pytest.fixture
def adopted(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of the adopted sample, from which nothing was asked yet."""
    nofx = shutil.copytree(SAMPLE, tmp_path / "nofx")
    key = json.loads((SAMPLE / "expected.json").read_text())["key"]["env_value"]
    env = environment(tmp_path / "data", DATA_ENCRYPTION_KEY=key, log_level="debug")
    ran = run("adopt", str(nofx / "config.db"), env=env)
    assert ran.returncode == 0, ran.stderr
    (tmp_path / "adopt.out").write_text(ran.stdout + ran.stderr)
    with serving(env, tmp_path / "log") as server:
        yield server


def secrets_of_the_sample() -> set[str]:
    expected = json.loads((SAMPLE / "expected.json").read_text())
    rows = expected["databases"]["config.db"]["rows"]
    columns = ("api_key", "secret_key", "aster_private_key", "otp_secret", "_password")
    found = {row[name] for table in rows.values() for row in table for name in columns if len(row.get(name) or "") >= 8}
    found |= {row["value"] for row in rows["system_config"] if row["key"] == "jwt_secret" and row["value"]}
    urls = [row[name] for row in rows["user_signal_sources"] for name in ("coin_pool_url", "oi_top_url")]
    urls += [row["custom_api_url"] or "" for row in rows["ai_models"]]
    found |= {query for url in urls if len(query := urlsplit(url).query) >= 8}
    return found | {expected["key"]["env_value"], expected["key"]["aes_key_hex"]}


async def test_no_secret_of_an_adopted_database_leaks(adopted: ServerProcess, tmp_path: Path) -> None:
    observed = Observed(secrets_of_the_sample())
    caller = Caller(adopted, observed)
    listed = await caller("Traders.ListTraders", traders_pb2.ListTradersRequest())
    for trader in listed.traders:
        request = traders_pb2.GetTraderConfigRequest(user_id=trader.user_id, trader_id=trader.id)
        assert await caller("Traders.GetTraderConfig", request, "engine")
    await caller.close()
    assert len(observed.secrets) > 10
    secrets = Secrets(observed.secrets)
    assert secrets.found_in_files(tmp_path / "nofx"), "they are in the database that was adopted"
    assert secrets.found_in_files(tmp_path / "data") == [], "while it runs"
    assert adopted.stop() == 0
    for name in ("log", "adopt.out"):
        observed.say(name, (tmp_path / name).read_bytes())
    assert secrets.found_in_files(tmp_path / "data") == []
    assert secrets.found_in_all(observed.said) == []
