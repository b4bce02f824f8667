"""The main job on real input: the sample adopted, served, and every trader's configuration read, each by a process."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pyotp
import pytest

from nofx_grpc.v1 import traders_pb2 as pb
from nofx_grpc.v1 import traders_pb2_grpc, users_pb2, users_pb2_grpc
from tests.support.files import snapshot
from tests.support.processes import ServerProcess, environment, run, serving

pytestmark = pytest.mark.e2e

SAMPLE = Path(__file__).parents[1] / "data/nofx-sample"
EXPECTED: dict[str, Any] = json.loads((SAMPLE / "expected.json").read_text())
ROWS = EXPECTED["databases"]["config.db"]["rows"]
LOADED = EXPECTED["databases"]["config.db"]["traders_in_go"]
CONFIG = {row["key"]: row["value"] for row in ROWS["system_config"]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of the adopted sample."""
    directory = tmp_path_factory.mktemp("e2e")
    nofx = shutil.copytree(SAMPLE, directory / "nofx")
    before = snapshot(nofx)
    env = environment(directory / "data", DATA_ENCRYPTION_KEY=EXPECTED["key"]["env_value"], login_floor_ms="0")
    adopted = run("adopt", str(nofx / "config.db"), "--json", env=env)
    assert adopted.returncode == 0, adopted.stderr
    report = json.loads(adopted.stdout)
    codes = sorted(problem["code"] for problem in report["problems"])
    assert codes == sorted(problem["code"] for problem in EXPECTED["databases"]["config.db"]["problems"])
    assert snapshot(nofx) == before
    with serving(env, directory / "log") as running:
        yield running
        assert running.stop() == 0


def row_of(table: str, **wanted: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = ROWS[table]
    [found] = [row for row in rows if wanted.items() <= row.items()]
    return found


def source_of(user_id: str) -> dict[str, Any]:
    found = [row for row in ROWS["user_signal_sources"] if row["user_id"] == user_id]
    return found[0] if found else {"coin_pool_url": "", "oi_top_url": ""}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def check_times(message: Any, row: dict[str, Any]) -> None:
    assert message.create_time.ToDatetime(tzinfo=UTC) == at(row["created_at"])
    assert message.update_time.ToDatetime(tzinfo=UTC) == at(row["updated_at"])
    assert message.revision == 1


def check_trader(trader: pb.Trader, row: dict[str, Any]) -> None:
    for name in (
        "id user_id name ai_model_id exchange_id initial_balance scan_interval_minutes is_running btc_eth_leverage "
        "altcoin_leverage use_coin_pool use_oi_top custom_prompt override_base_prompt is_cross_margin "
        "use_default_coins system_prompt_template"
    ).split():
        assert getattr(trader, name) == row[name], name
    for name in ("trading_symbols", "custom_coins"):
        assert list(getattr(trader, name)) == [part.strip() for part in row[name].split(",") if part.strip()]
    check_times(trader, row)


def check_secrets(config: pb.TraderConfig, model: dict[str, Any], exchange: dict[str, Any]) -> None:
    assert config.model_credentials.api_key == model["api_key"]
    assert config.model_credentials.custom_api_url == model["custom_api_url"]
    for name in ("api_key", "secret_key", "aster_private_key"):
        assert getattr(config.exchange_credentials, name) == exchange[name], name
    source = source_of(config.trader.user_id)
    assert config.signal_source_credentials.coin_pool_url == source["coin_pool_url"]
    assert config.signal_source_credentials.oi_top_url == source["oi_top_url"]


@pytest.mark.parametrize("row", ROWS["traders"], ids=lambda row: row["name"])
async def test_every_trader_has_its_whole_configuration(server: ServerProcess, row: dict[str, Any]) -> None:
    async with server.channel() as channel:
        stub = traders_pb2_grpc.TradersStub(channel)
        request = pb.GetTraderConfigRequest(user_id=row["user_id"], trader_id=row["id"])
        config: pb.TraderConfig = await stub.GetTraderConfig(request, metadata=server.authorization("engine"))
    model = row_of("ai_models", id=row["ai_model_id"])
    exchange = row_of("exchanges", id=row["exchange_id"], user_id=row["user_id"])
    check_trader(config.trader, row)
    check_secrets(config, model, exchange)
    for name in ("id", "user_id", "name", "provider", "enabled", "custom_model_name"):
        assert getattr(config.model, name) == model[name], name
    for name in "id user_id name type enabled testnet hyperliquid_wallet_addr aster_user aster_signer".split():
        assert getattr(config.exchange, name) == exchange[name], name
    check_times(config.model, model)
    check_times(config.exchange, exchange)
    assert config.risk.max_daily_loss == float(CONFIG["max_daily_loss"])
    assert config.risk.stop_trading_minutes == int(CONFIG["stop_trading_minutes"])
    assert config.risk.btc_eth_leverage == int(CONFIG["btc_eth_leverage"])
    assert list(config.risk.default_coins) == json.loads(CONFIG["default_coins"])
    assert config.runnable == LOADED[row["id"]]["loaded"]
    assert config.revision == 1


async def test_a_user_logs_in_with_password_and_code_of_nofx(server: ServerProcess) -> None:
    user = row_of("users", email="alice@example.com")
    code = pyotp.TOTP(user["otp_secret"]).now()
    request = users_pb2.AuthenticateRequest(email=user["email"], password=user["_password"], otp_code=code)
    async with server.channel() as channel:
        stub = users_pb2_grpc.UsersStub(channel)
        answer = await stub.Authenticate(request, metadata=server.authorization("gateway"))
    assert answer.user.id == user["id"]


async def test_the_admin_without_a_password_cannot_log_in(server: ServerProcess) -> None:
    async with server.channel() as channel:
        stub = users_pb2_grpc.UsersStub(channel)
        request = users_pb2.AuthenticateRequest(email="admin@localhost", password="any", otp_code="000000")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Authenticate(request, metadata=server.authorization("gateway"))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_no_secret_is_in_the_data_directory_or_the_log(server: ServerProcess) -> None:
    """Last in the file: after everything was read and logged."""
    written = server.log.read_bytes()
    for path in server.data_dir.rglob("*"):
        written += path.read_bytes() if path.is_file() else b""
    for table, columns in (
        ("users", ["otp_secret", "_password"]),
        ("ai_models", ["api_key"]),
        ("exchanges", ["api_key", "secret_key", "aster_private_key"]),
    ):
        for row in ROWS[table]:
            for column in columns:
                assert not row[column] or row[column].encode() not in written, (table, column)
    for secret in ("auth=demo", EXPECTED["jwt"]["effective_secret"], EXPECTED["key"]["env_value"]):
        assert secret.encode() not in written


def test_adopting_again_is_refused_in_words_and_in_json(server: ServerProcess) -> None:
    refused = run("adopt", str(SAMPLE / "config.db"), "--json", env=server.env)
    assert refused.returncode == 3
    assert json.loads(refused.stdout)["error"]["reason"] == "ADOPTION_ERROR"
    assert "already holds data" in refused.stderr


def test_the_report_for_people_names_what_to_look_at(tmp_path: Path) -> None:
    env = environment(tmp_path / "data")
    done = run("adopt", str(SAMPLE / "config.db"), "--env-file", str(SAMPLE / "env"), env=env)
    assert done.returncode == 0, done.stderr
    for word in ("secret_in_clear (2)", "user_without_password", "traders", "config.json", "Next: nofx-grpc serve"):
        assert word in done.stdout, word


def test_to_and_in_place_exclude_each_other(tmp_path: Path) -> None:
    env = environment(tmp_path / "data")
    done = run("adopt", str(SAMPLE / "config.db"), "--in-place", "--to", "sqlite:///x.db", env=env)
    assert done.returncode == 2
    assert not (tmp_path / "data").exists()
