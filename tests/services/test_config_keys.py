"""The registry of the known keys, by itself; and that the documentation says the same."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nofx_grpc.errors import InvalidArgument
from nofx_grpc.services import config_keys
from nofx_grpc.services.config_keys import KNOWN, PUBLISHED_SECRETS, ConfigKey
from nofx_grpc.v1.system_config_pb2 import ConfigType

DOCS = Path(__file__).parents[2] / "docs" / "system-config.md"
PLAIN = sorted(name for name, key in KNOWN.items() if not key.secret)


@pytest.mark.parametrize(
    ("key", "text", "stored"),
    [
        ("beta_mode", " True\n", "true"),
        ("api_server_port", "+08080", "8080"),
        ("max_daily_loss", "7", "7.0"),
        ("max_daily_loss", "12.345", "12.345"),
        ("max_daily_loss", "-0", "0.0"),
        ("max_drawdown", "1e1", "10.0"),
        ("default_coins", '["btc", " ethusdt ", "BTCUSDT", "币安人生"]', '["BTCUSDT","ETHUSDT","币安人生USDT"]'),
        ("default_coins", "[]", "[]"),
        ("coin_pool_api_url", " https://u:p@h:8/x?auth=1 ", "https://u:p@h:8/x?auth=1"),
        ("coin_pool_api_url", "", ""),
        ("jwt_secret", "s" * 31 + "\n", "s" * 31 + "\n"),
        ("a key of tomorrow", " anything\n", " anything\n"),
    ],
)
def test_a_value_is_stored_in_its_normal_form(key: str, text: str, stored: str) -> None:
    assert config_keys.check(key, text) == stored


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("beta_mode", "1", "expected 'true' or 'false'"),
        ("registration_enabled", "", "expected 'true' or 'false'"),
        ("api_server_port", "0", "expected an integer from 1 to 65,535"),
        ("api_server_port", "8080.0", "expected an integer from 1 to 65,535"),
        ("api_server_port", "8" * 5000, "expected an integer from 1 to 65,535"),
        ("api_server_port", "８０", "expected an integer from 1 to 65,535"),
        ("btc_eth_leverage", "126", "expected an integer from 1 to 125"),
        ("altcoin_leverage", "0", "expected an integer from 1 to 125"),
        ("stop_trading_minutes", "-1", "expected an integer from 0 to 525,600"),
        ("max_daily_loss", "nan", "expected a number from 0 to 100, such as 10.0"),
        ("max_daily_loss", "1e999", "expected a number from 0 to 100, such as 10.0"),
        ("max_drawdown", "100.1", "expected a number from 0 to 100, such as 20.0"),
        ("default_coins", "BTCUSDT", "expected a JSON array of at most 1000 symbols"),
        ("default_coins", "[1]", "expected a JSON array of at most 1000 symbols"),
        ("default_coins", '[" "]', "expected a JSON array of at most 1000 symbols"),
        ("default_coins", '["A,B"]', "expected a JSON array of at most 1000 symbols"),
        ("default_coins", '["A B"]', "expected a JSON array of at most 1000 symbols"),
        ("default_coins", '["\\ud800"]', "expected a JSON array of at most 1000 symbols"),
        ("default_coins", "[" * 100_000, "expected a JSON array of at most 1000 symbols"),
        ("default_coins", '["' + "A" * 65 + '"]', "expected a JSON array of at most 1000 symbols"),
        ("coin_pool_api_url", "ftp://h/secret-word", "expected an http or https URL of at most 2048 bytes, or nothing"),
        ("coin_pool_api_url", "https:///path", "expected an http or https URL of at most 2048 bytes, or nothing"),
        ("oi_top_api_url", "http://h:99999", "expected an http or https URL of at most 2048 bytes, or nothing"),
        ("oi_top_api_url", "http://h/" + "a" * 2048, "expected an http or https URL of at most 2048 bytes, or nothing"),
        ("jwt_secret", "secret-word", "expected at least 32 bytes, as from: openssl rand -base64 48"),
        ("jwt_secret", "", "expected at least 32 bytes, as from: openssl rand -base64 48"),
        ("a key of tomorrow", "a\0b", "holds a character that cannot be stored"),
        ("a key of tomorrow", "nofx1:0a1b2c3d:0a1b2c3d:QUJD", "has the form of a sealed secret"),
    ],
)
def test_a_wrong_value_is_refused_by_key_and_with_what_is_right(key: str, text: str, expected: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        config_keys.check(key, text)
    assert caught.value.message.startswith(f"{key}: {expected}") and "secret-word" not in caught.value.message


@pytest.mark.parametrize("secret", sorted(PUBLISHED_SECRETS))
@pytest.mark.parametrize("blank", ["", "\n"])
def test_a_jwt_secret_that_nofx_has_published_is_refused(secret: str, blank: str) -> None:
    with pytest.raises(InvalidArgument, match="has been published by NOFX"):
        config_keys.check("jwt_secret", secret + blank)


@given(key=st.sampled_from(sorted(KNOWN)), text=st.text() | st.floats().map(repr) | st.integers().map(str))
def test_any_text_is_refused_politely_or_has_one_normal_form(key: str, text: str) -> None:
    try:
        stored = config_keys.check(key, text)
    except InvalidArgument:
        return
    assert config_keys.check(key, stored) == stored
    stored.encode()


@given(key=st.sampled_from(PLAIN), text=st.text() | st.none())
def test_whatever_is_stored_can_be_read(key: str, text: str | None) -> None:
    assert type(config_keys.read(key, text)) is type(config_keys.read(key, None))


def test_defaults_are_in_normal_form_and_what_nofx_seeds() -> None:
    values = config_keys.defaults("j" * 64)
    assert values == {
        "beta_mode": "false",
        "registration_enabled": "true",
        "api_server_port": "8080",
        "use_default_coins": "true",
        "default_coins": '["BTCUSDT","ETHUSDT","SOLUSDT","BNBUSDT","XRPUSDT","DOGEUSDT","ADAUSDT","HYPEUSDT"]',
        "max_daily_loss": "10.0",
        "max_drawdown": "20.0",
        "stop_trading_minutes": "60",
        "btc_eth_leverage": "5",
        "altcoin_leverage": "5",
        "jwt_secret": "j" * 64,
    }
    assert all(config_keys.check(key, text) == text for key, text in values.items())


def test_risk_settings_take_defaults_for_what_is_missing_or_wrong() -> None:
    risk = config_keys.risk_settings(
        {"max_daily_loss": "2.5", "max_drawdown": "lots", "btc_eth_leverage": "0", "default_coins": '["sol"]'}
    )
    assert (risk.max_daily_loss, risk.max_drawdown, risk.stop_trading_minutes) == (2.5, 20.0, 60)
    assert (risk.btc_eth_leverage, risk.altcoin_leverage, risk.use_default_coins) == (5, 5, True)
    assert list(risk.default_coins) == ["SOLUSDT"]


def test_no_secret_is_public_and_no_secret_has_a_published_default() -> None:
    for key in KNOWN.values():
        assert not (key.secret and (key.is_public or key.default))


def test_the_documentation_has_a_row_for_each_key() -> None:
    section = DOCS.read_text().split("\n## ")[1]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert rows == [row_of(key) for key in KNOWN.values()]


def row_of(key: ConfigKey) -> str:
    """The line of the table in docs/system-config.md."""
    kind = ConfigType.Name(key.type).removeprefix("CONFIG_TYPE_").lower().replace("_", " ")
    bounds = "" if key.highest == float("inf") else f", {key.lowest:g} to {key.highest:_}".replace("_", ",")
    default = f"`{key.default}`" if key.default else "–"
    who = "secret" if key.secret else "public" if key.is_public else "readers"
    return f"| `{key.name}` | {kind}{bounds} | {default} | {who} | {key.meaning} |"
