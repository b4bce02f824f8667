"""Which tables and columns NOFX has, and what each becomes.  Which columns are secret, `store.tables` says."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from nofx_grpc.store.adoption.source import Cell
from nofx_grpc.store.adoption.values import Convert, to_flag, to_integer, to_number, to_text, to_time
from nofx_grpc.store.users import DEFAULT_USER

NOW: Final = object()  # the default of a time: that of the adoption

_SEVERE: Final = object()


class Column(NamedTuple):
    """A column: `null` is what NULL is read as, `absent` what holds where the database has no such column.

    `required`: NOFX never leaves it NULL, so that is told.
    """

    name: str
    convert: Convert
    null: Any
    absent: Any
    required: bool = False


def _column(name: str, convert: Convert, null: Any, absent: Any = _SEVERE, *, required: bool = False) -> Column:
    return Column(name, convert, null, null if absent is _SEVERE else absent, required)


def _required(name: str) -> Column:
    return _column(name, to_text, "", required=True)


def _text(name: str, null: str = "") -> Column:
    return _column(name, to_text, null)


def _flag(name: str, *, null: bool = False, absent: bool | None = None) -> Column:
    return _column(name, to_flag, null, null if absent is None else absent)


def _integer(name: str, null: int) -> Column:
    return _column(name, to_integer, null)


def _time(name: str) -> Column:
    return _column(name, to_time, NOW)


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table of NOFX: its key and its columns."""

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    owned: bool = False  # whether user_id must be a user
    names: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", frozenset(column.name for column in self.columns))

    def missing(self, present: list[str]) -> Iterator[str]:
        return (column.name for column in self.columns if column.name not in present)

    def unknown(self, present: list[str]) -> list[str]:
        return [name for name in present if name not in self.names]


class Row(NamedTuple):
    """A row: as it is to be stored, and as it was."""

    key: tuple[str, ...]
    values: dict[str, Any]
    original: dict[str, Cell]

    def __repr__(self) -> str:
        return f"Row({self.key})"  # what it holds may be secret


_TIMES: Final = (_time("created_at"), _time("updated_at"))

USERS: Final = TableSpec(
    "users",
    ("id",),
    (
        _required("id"),
        _required("email"),
        _required("password_hash"),
        _text("otp_secret"),
        _flag("otp_verified"),
        *_TIMES,
    ),
)

MODELS: Final = TableSpec(
    "ai_models",
    ("id",),
    (
        _required("id"),
        _text("user_id", DEFAULT_USER),
        _required("name"),
        _required("provider"),
        _flag("enabled"),
        _text("api_key"),
        *_TIMES,
        _text("custom_api_url"),
        _text("custom_model_name"),
    ),
    owned=True,
)

EXCHANGES: Final = TableSpec(
    "exchanges",
    ("id", "user_id"),
    (
        _required("id"),
        _text("user_id", DEFAULT_USER),
        _required("name"),
        _required("type"),
        _flag("enabled"),
        _text("api_key"),
        _text("secret_key"),
        _flag("testnet"),
        _text("hyperliquid_wallet_addr"),
        _text("aster_user"),
        _text("aster_signer"),
        _text("aster_private_key"),
        *_TIMES,
    ),
    owned=True,
)

SIGNAL_SOURCES: Final = TableSpec(
    "user_signal_sources",
    ("user_id",),
    (_column("id", to_integer, None), _required("user_id"), _text("coin_pool_url"), _text("oi_top_url"), *_TIMES),
    owned=True,
)

TRADERS: Final = TableSpec(
    "traders",
    ("id",),
    (
        _required("id"),
        _text("user_id", DEFAULT_USER),
        _required("name"),
        _required("ai_model_id"),
        _required("exchange_id"),
        _column("initial_balance", to_number, 0.0, required=True),
        _integer("scan_interval_minutes", 3),
        _flag("is_running"),
        _integer("btc_eth_leverage", 5),
        _integer("altcoin_leverage", 5),
        _text("trading_symbols"),
        _flag("use_coin_pool"),
        _flag("use_oi_top"),
        *_TIMES,
        _text("custom_prompt"),
        _flag("override_base_prompt"),
        _flag("is_cross_margin", null=True),
        _flag("use_default_coins", absent=True),  # where NOFX adds the column, it is on
        _text("custom_coins"),
        _text("system_prompt_template", "default"),
    ),
    owned=True,
)

SYSTEM_CONFIG: Final = TableSpec("system_config", ("key",), (_required("key"), _required("value"), _time("updated_at")))

BETA_CODES: Final = TableSpec(
    "beta_codes",
    ("code",),
    (
        _required("code"),
        _flag("used"),
        _text("used_by"),
        _column("used_at", to_time, None),
        _time("created_at"),
    ),
)

TABLES: Final = (USERS, MODELS, EXCHANGES, SIGNAL_SOURCES, TRADERS, SYSTEM_CONFIG, BETA_CODES)

# What NOFX's rebuild of `exchanges` leaves behind when it is interrupted: rows that may be nowhere else.
EXCHANGES_LEFT: Final = "exchanges_new"
