"""Secrets wherever NOFX put them: encrypted, in clear, half of each, damaged, or only looking encrypted."""

from collections.abc import Callable
from pathlib import Path

import pytest

from nofx_grpc.errors import AdoptionError
from tests.support.adoption import Adopted, adopt
from tests.support.nofx_db import KEY, NofxDatabase

AdoptIt = Callable[[], Adopted]


def test_a_row_may_be_half_in_clear(nofx: NofxDatabase, adopted: AdoptIt) -> None:
    nofx.user()
    nofx.exchange(api_key=nofx.encrypted("sealed-by-nofx"), secret_key="clear-in-nofx")
    found = adopted()
    assert found.secret("exchanges", "api_key", "u1", "binance") == "sealed-by-nofx"
    assert found.secret("exchanges", "secret_key", "u1", "binance") == "clear-in-nofx"
    [problem] = found.problems("secret_in_clear")
    assert (problem.key, problem.detail) == (["binance", "u1"], "secret_key")
    counts = found.report.secrets
    assert (counts["exchanges.api_key"].encrypted, counts["exchanges.secret_key"].clear) == (1, 1)


def test_a_secret_that_does_not_open_is_emptied_and_kept_aside(nofx: NofxDatabase, adopted: AdoptIt) -> None:
    nofx.complete_user()
    damaged = nofx.encrypted("lost")[:-8] + "AAAAAAA="
    nofx.exchange("aster", aster_private_key=damaged, api_key=nofx.encrypted("fine"))
    found = adopted()
    assert found.secret("exchanges", "api_key", "u1", "aster") == "fine"
    assert found.secret("exchanges", "aster_private_key", "u1", "aster") == ""
    [problem] = found.problems("secret_undecryptable")
    assert (problem.severity, problem.key, problem.detail) == ("error", ["aster", "u1"], "aster_private_key")
    assert found.report.secrets["exchanges.aster_private_key"].undecryptable == 1
    assert found.report.values_set_aside == 1
    [(*_, content)] = found.aside()
    assert damaged in content
    assert damaged.encode() not in found.target.read_bytes()


@pytest.mark.parametrize("raw", ["ENC:v1:my-own-key", "ENC:v1:", "ENC:v1:a:b", "ENC:v1:AAAAAAAAAAAAAAAA:ä"])
def test_a_secret_that_only_begins_as_a_ciphertext_is_kept_aside(
    nofx: NofxDatabase, adopted: AdoptIt, raw: str
) -> None:
    nofx.user()
    nofx.model(api_key=raw)
    found = adopted()
    assert found.secret("ai_models", "api_key", "u1", "u1_deepseek") == ""
    [(*_, code, content)] = found.aside()
    assert code == "secret_undecryptable"
    assert raw in content


def test_a_secret_that_opens_to_a_ciphertext_is_what_nofx_used(nofx: NofxDatabase, adopted: AdoptIt) -> None:
    nofx.user()
    inner = nofx.encrypted("innermost")
    nofx.model(api_key=nofx.encrypted(inner))
    found = adopted()
    assert found.secret("ai_models", "api_key", "u1", "u1_deepseek") == inner
    assert [problem.code for problem in found.report.problems] == ["secret_looks_encrypted"]


@pytest.mark.parametrize("secret", ["ENC:v1:AAAA:BBBB", b"\xff\xfe"])
def test_who_loses_the_otp_secret_does_not_log_in_by_the_password_alone(
    nofx: NofxDatabase, adopted: AdoptIt, secret: object
) -> None:
    nofx.user("u1", otp_secret=secret)
    nofx.user("u2", otp_secret="TXF7W7GTEC7ATYWZMW6EDAV3Q3IHHCA6")
    found = adopted()
    assert not found.row("users", "u1")["otp_verified"] and found.row("users", "u2")["otp_verified"]
    assert [problem.key for problem in found.problems("otp_secret_lost")] == ["u1"]


@pytest.mark.parametrize("secret", ["", None])
def test_who_is_verified_without_an_otp_secret_does_not_log_in_by_the_password_alone(
    nofx: NofxDatabase, adopted: AdoptIt, secret: object
) -> None:
    """NOFX lets nobody in without a code; whoever could empty the column must gain nothing by it."""
    nofx.user("u1", otp_secret=secret)
    nofx.user("admin", otp_secret=secret, password_hash="")
    nofx.user("u3", otp_secret=secret, otp_verified=0)
    found = adopted()
    assert [bool(found.row("users", id)["otp_verified"]) for id in ("u1", "admin", "u3")] == [False, True, False]
    assert [problem.key for problem in found.problems("otp_secret_missing")] == ["u1"]


def test_every_text_column_is_looked_at(nofx: NofxDatabase, adopted: AdoptIt) -> None:
    nofx.user(otp_secret=nofx.encrypted("TXF7W7GTEC7ATYWZMW6EDAV3Q3IHHCA6"))
    nofx.model(custom_model_name=nofx.encrypted("gpt-x"), custom_api_url=nofx.encrypted("https://u:p@x.example/v1?k=1"))
    nofx.exchange(hyperliquid_wallet_addr=nofx.encrypted("0xwallet"))
    nofx.insert("user_signal_sources", user_id="u1", coin_pool_url=nofx.encrypted("http://c.example/p?auth=1"))
    nofx.config("default_coins", nofx.encrypted('["BTCUSDT"]'))
    nofx.config("jwt_secret", nofx.encrypted("j" * 40))
    nofx.config("smtp_password", nofx.encrypted("mail-password"))
    found = adopted()
    assert found.secret("users", "otp_secret", "u1", "") == "TXF7W7GTEC7ATYWZMW6EDAV3Q3IHHCA6"
    model = found.row("ai_models", "u1_deepseek")
    assert model["custom_model_name"] == "gpt-x"
    assert model["custom_api_url"].endswith(":https://x.example/v1")
    assert found.secret("ai_models", "custom_api_url", "u1", "u1_deepseek") == "https://u:p@x.example/v1?k=1"
    [wallet] = found.rows("SELECT hyperliquid_wallet_addr AS it FROM exchanges WHERE user_id = 'u1'")
    assert wallet["it"] == "0xwallet"
    assert found.secret("user_signal_sources", "coin_pool_url", "u1", "") == "http://c.example/p?auth=1"
    config = {row["key"]: row["value"] for row in found.table("system_config")}
    assert config["default_coins"] == '["BTCUSDT"]'
    assert found.secret("system_config", "value", "", "jwt_secret") == "j" * 40
    # What NOFX had encrypted is not stored in clear: nothing would seal it.
    assert config["smtp_password"] == ""
    assert [problem.key for problem in found.problems("encrypted_config_value")] == ["smtp_password"]
    assert b"mail-password" not in found.target.read_bytes()


def test_a_name_may_look_encrypted(nofx: NofxDatabase, adopted: AdoptIt) -> None:
    nofx.complete_user()
    nofx.connection.execute("UPDATE traders SET name = 'ENC:v1:best trader'")
    found = adopted()
    assert found.row("traders", "t1")["name"] == "ENC:v1:best trader"
    assert found.problems("text_looks_encrypted")


@pytest.mark.parametrize("secret", ["line\nbreak", "tab\t", "🔑", "x" * 100_000, "nul\0inside"])
def test_a_secret_may_hold_anything(nofx: NofxDatabase, adopted: AdoptIt, secret: str) -> None:
    nofx.user()
    nofx.model(api_key=nofx.encrypted(secret))
    nofx.exchange(api_key=secret)
    nofx.config("jwt_secret", secret)
    found = adopted()
    assert found.secret("ai_models", "api_key", "u1", "u1_deepseek") == secret
    assert found.secret("exchanges", "api_key", "u1", "binance") == secret
    assert found.secret("system_config", "value", "", "jwt_secret") == secret


def test_a_blob_may_hold_a_secret(nofx: NofxDatabase, adopted: AdoptIt) -> None:
    nofx.user()
    nofx.exchange(api_key=b"blob-in-clear", secret_key=nofx.encrypted("blob-sealed").encode())
    found = adopted()
    assert found.secret("exchanges", "api_key", "u1", "binance") == "blob-in-clear"
    assert found.secret("exchanges", "secret_key", "u1", "binance") == "blob-sealed"


def test_encrypted_secrets_without_the_key_are_refused(nofx: NofxDatabase, tmp_path: Path) -> None:
    nofx.complete_user()
    with pytest.raises(AdoptionError, match="DATA_ENCRYPTION_KEY is not set"):
        adopt(nofx.close(), tmp_path / "data", key=None)
    assert not (tmp_path / "data/nofx.db").exists()
    assert not (tmp_path / "data/master.key").exists()


def test_another_key_is_refused(nofx: NofxDatabase, tmp_path: Path) -> None:
    nofx.complete_user()
    with pytest.raises(AdoptionError, match="none of the 3 encrypted secrets") as caught:
        adopt(nofx.close(), tmp_path / "data", key="another key")
    assert "another key" not in caught.value.message
    assert not (tmp_path / "data/nofx.db").exists()
    assert adopt(nofx.path, tmp_path / "data", key=KEY).report.problems == []


def test_without_encrypted_secrets_a_key_is_made_as_at_a_first_start(nofx: NofxDatabase, tmp_path: Path) -> None:
    nofx.user()
    nofx.exchange(api_key="clear")
    found = adopt(nofx.close(), tmp_path / "data", key=None)
    assert (tmp_path / "data/master.key").stat().st_mode & 0o777 == 0o600
    assert found.secret("exchanges", "api_key", "u1", "binance") == "clear"
    assert found.rows("SELECT id FROM keyring WHERE id = 'nofx-v1'") == []
