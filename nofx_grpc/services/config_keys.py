"""The known keys of the system configuration: what each means, what it may be, and what holds where it is not stored.

Everything here is pure.  Values are text, as in the database: `check` makes the text to be stored of what a client
sends, `read` the typed value of what is stored, which may come from an adopted database and be anything.  An unknown
key is a string that every reader may see: what is secret is decided here and nowhere else.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from nofx_grpc.crypto.envelope import is_sealed
from nofx_grpc.errors import InvalidArgument, Violation
from nofx_grpc.services.convert import normalize_symbol
from nofx_grpc.v1.system_config_pb2 import (
    CONFIG_TYPE_BOOL,
    CONFIG_TYPE_INTEGER,
    CONFIG_TYPE_NUMBER,
    CONFIG_TYPE_STRING,
    CONFIG_TYPE_STRING_LIST,
    CONFIG_TYPE_URL,
    ConfigType,
)
from nofx_grpc.v1.traders_pb2 import RiskSettings

JWT_SECRET: Final = "jwt_secret"
MOST_SYMBOLS: Final = 1000
MOST_SYMBOL_BYTES: Final = 64
MOST_URL_BYTES: Final = 2048
MINUTES_PER_YEAR: Final = 525_600

# A signing key for HS256 has at least as many bits as its hash (RFC 7518 §3.2).
LEAST_SECRET_BYTES: Final = 32

# JWT secrets that stand in NOFX's public code, examples and documentation: whoever reads them can sign in as anybody.
PUBLISHED_SECRETS: Final = frozenset(
    {
        "your-jwt-secret-key-change-in-production-make-it-long-and-random",
        "Qk0kAa+d0iIEzXVHXbNbm+UaN3RNabmWtH8rDWZ5OPf+4GX8pBflAHodfpbipVMyrw1fsDanHsNBjhgbDeK9Jg==",
        "default-jwt-secret-change-in-production",
        "your-jwt-secret-change-this-in-production",
        "test-jwt-secret-minimum-32-chars",
        "YOUR_JWT_SECRET_CHANGE_IN_PRODUCTION",
        "your-jwt-secret-key",
        "YOUR_JWT_SCR",
    }
)


@dataclass(frozen=True, slots=True)
class ConfigKey:
    """One key.  `default` holds where no value is stored; `lowest` and `highest` bound numbers."""

    name: str
    type: ConfigType.ValueType
    default: str
    meaning: str
    lowest: float = -math.inf
    highest: float = math.inf
    is_public: bool = False
    secret: bool = False
    known: bool = True


_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")  # NUL, and halves of characters, which JSON can hold and UTF-8 cannot
_NUMBER = re.compile(r"[+-]?([0-9]{1,15}(\.[0-9]{0,20})?|\.[0-9]{1,20})([eE][+-]?[0-9]{1,3})?")
_COINS = '["BTCUSDT","ETHUSDT","SOLUSDT","BNBUSDT","XRPUSDT","DOGEUSDT","ADAUSDT","HYPEUSDT"]'

_KEYS = (
    ConfigKey("beta_mode", CONFIG_TYPE_BOOL, "false", "Whether registration needs a beta code.", is_public=True),
    ConfigKey("registration_enabled", CONFIG_TYPE_BOOL, "true", "Whether registration is open.", is_public=True),
    ConfigKey("api_server_port", CONFIG_TYPE_INTEGER, "8080", "The port of NOFX's web API.", 1, 65535),
    ConfigKey("use_default_coins", CONFIG_TYPE_BOOL, "true", "Whether traders without coins use the default ones."),
    ConfigKey("default_coins", CONFIG_TYPE_STRING_LIST, _COINS, "The coins of traders without any.", is_public=True),
    ConfigKey("max_daily_loss", CONFIG_TYPE_NUMBER, "10.0", "The loss in a day that stops trading, in %.", 0, 100),
    ConfigKey("max_drawdown", CONFIG_TYPE_NUMBER, "20.0", "The fall from the peak that stops trading, in %.", 0, 100),
    ConfigKey(
        "stop_trading_minutes", CONFIG_TYPE_INTEGER, "60", "For how many minutes it stops then.", 0, MINUTES_PER_YEAR
    ),
    ConfigKey("btc_eth_leverage", CONFIG_TYPE_INTEGER, "5", "The leverage for BTC and ETH.", 1, 125, is_public=True),
    ConfigKey("altcoin_leverage", CONFIG_TYPE_INTEGER, "5", "The leverage for other coins.", 1, 125, is_public=True),
    ConfigKey(JWT_SECRET, CONFIG_TYPE_STRING, "", "What signs web sessions; made at the first start.", secret=True),
    ConfigKey("coin_pool_api_url", CONFIG_TYPE_URL, "", "Where NOFX asks for its coin pool.", secret=True),
    ConfigKey("oi_top_api_url", CONFIG_TYPE_URL, "", "Where NOFX asks for the top open interest.", secret=True),
)

KNOWN: Final[Mapping[str, ConfigKey]] = {key.name: key for key in _KEYS}
PUBLIC: Final = tuple(sorted(key.name for key in _KEYS if key.is_public))
SECRETS: Final = tuple(sorted(key.name for key in _KEYS if key.secret))
RISK: Final = tuple(field.name for field in RiskSettings.DESCRIPTOR.fields)


def key_of(name: str) -> ConfigKey:
    """What is known of a key; an unknown one is a string."""
    return KNOWN.get(name) or ConfigKey(name, CONFIG_TYPE_STRING, "", "", known=False)


def defaults(jwt_secret: str) -> dict[str, str]:
    """What a new store is seeded with: NOFX's values, and a JWT secret that was made for it."""
    values = {key.name: key.default for key in _KEYS if key.default}
    return values | {JWT_SECRET: jwt_secret}


def check(name: str, text: str, *, field: str | None = None) -> str:
    """The text to be stored for a key.  Raises InvalidArgument naming the key (or `field`) and what would be right."""
    try:
        return _to_text(_parse(key_of(name), text))
    except ValueError as error:
        raise InvalidArgument(Violation(field or name, str(error))) from None


@lru_cache(maxsize=256)
def read(name: str, text: str | None) -> Any:
    """The typed value of a known key that is no secret; its default where none is stored or what is stored is wrong."""
    key = KNOWN[name]
    if text is not None:
        try:
            return _parse(key, text)
        except ValueError:  # from an adopted database, where nothing was checked
            return _parse(key, key.default)
    return _parse(key, key.default)


def risk_settings(values: Mapping[str, str]) -> RiskSettings:
    """The risk settings of the whole system, from the stored text of the keys `RISK`."""
    return RiskSettings(**{name: read(name, values.get(name)) for name in RISK})


def is_published(secret: str) -> bool:
    """Whether anybody can know this JWT secret."""
    return secret.strip() in PUBLISHED_SECRETS


def _parse(key: ConfigKey, text: str) -> Any:
    """The typed value.  Raises ValueError saying what would be right, without the value, which may be a secret."""
    return _PARSERS[key.type](key, text)


def _to_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return json.dumps(value)


def _parse_bool(_: ConfigKey, text: str) -> bool:
    words = {"true": True, "false": False}
    if (word := text.strip().lower()) not in words:
        raise ValueError("expected 'true' or 'false'")
    return words[word]


def _parse_integer(key: ConfigKey, text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,15}", text.strip()) or not key.lowest <= int(text) <= key.highest:
        raise ValueError(f"expected an integer from {key.lowest:g} to {key.highest:_}".replace("_", ","))
    return int(text)


def _parse_number(key: ConfigKey, text: str) -> float:
    is_number = _NUMBER.fullmatch(text.strip())
    if not is_number or not key.lowest <= float(text) <= key.highest:
        raise ValueError(f"expected a number from {key.lowest:g} to {key.highest:g}, such as {key.default}")
    return float(text) + 0.0  # -0.0 becomes 0.0


def _parse_symbols(_: ConfigKey, text: str) -> tuple[str, ...]:
    expected = f"expected a JSON array of at most {MOST_SYMBOLS} symbols, such as " + '["BTCUSDT","ETHUSDT"]'
    try:
        symbols = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(expected) from None
    if not isinstance(symbols, list) or len(symbols) > MOST_SYMBOLS or not all(map(_is_symbol, symbols)):
        raise ValueError(expected)
    return tuple(dict.fromkeys(map(normalize_symbol, symbols)))


def _is_symbol(symbol: object) -> bool:
    """Whether this is one word without commas; NOFX lists coins with names in any script."""
    if not isinstance(symbol, str) or not (word := symbol.strip()) or "," in word or not word.isprintable():
        return False
    return " " not in word and len(word.encode()) <= MOST_SYMBOL_BYTES


def _parse_url(_: ConfigKey, text: str) -> str:
    url = text.strip()
    if url and not (_is_url(url) and url.isprintable() and len(url.encode()) <= MOST_URL_BYTES):
        raise ValueError(f"expected an http or https URL of at most {MOST_URL_BYTES} bytes, or nothing")
    return url


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and " " not in url
    except ValueError:
        return False


def _parse_string(key: ConfigKey, text: str) -> str:
    if _NOT_STORABLE.search(text):
        raise ValueError("holds a character that cannot be stored")
    if not key.secret and is_sealed(text):
        raise ValueError("has the form of a sealed secret, which no text may have that is none")
    if key.name == JWT_SECRET and is_published(text):
        raise ValueError("has been published by NOFX: make one of your own, as with: openssl rand -base64 48")
    if key.name == JWT_SECRET and len(text.encode()) < LEAST_SECRET_BYTES:
        raise ValueError(f"expected at least {LEAST_SECRET_BYTES} bytes, as from: openssl rand -base64 48")
    return text


_PARSERS: Mapping[ConfigType.ValueType, Callable[[ConfigKey, str], Any]] = {
    CONFIG_TYPE_BOOL: _parse_bool,
    CONFIG_TYPE_INTEGER: _parse_integer,
    CONFIG_TYPE_NUMBER: _parse_number,
    CONFIG_TYPE_STRING: _parse_string,
    CONFIG_TYPE_STRING_LIST: _parse_symbols,
    CONFIG_TYPE_URL: _parse_url,
}
