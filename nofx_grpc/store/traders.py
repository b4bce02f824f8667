"""Traders: an AI agent's standing orders, and all that one is configured by (spec §2.5)."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    Column,
    Connection,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    Table,
    bindparam,
    column,
    select,
    table,
    text,
    union,
)

from nofx_grpc.errors import NotFound
from nofx_grpc.store import users
from nofx_grpc.store.decisions import logs
from nofx_grpc.store.metadata import flag_column, key_column, metadata, revision_column, text_column, time_column
from nofx_grpc.store.resources import Resource
from nofx_grpc.store.revisions import Kind

traders = Table(
    "traders",
    metadata,
    key_column("id", primary_key=True),
    text_column("user_id", default="default"),
    key_column("name"),
    key_column("ai_model_id"),
    key_column("exchange_id"),
    Column("initial_balance", Double, nullable=False),
    Column("scan_interval_minutes", Integer, nullable=False, server_default=text("3")),
    flag_column("is_running"),
    Column("btc_eth_leverage", Integer, nullable=False, server_default=text("5")),
    Column("altcoin_leverage", Integer, nullable=False, server_default=text("5")),
    text_column("trading_symbols"),
    flag_column("use_coin_pool"),
    flag_column("use_oi_top"),
    time_column("created_at"),
    time_column("updated_at"),
    text_column("custom_prompt"),
    flag_column("override_base_prompt"),
    flag_column("is_cross_margin", default=True),
    flag_column("use_default_coins", default=True),
    text_column("custom_coins"),
    text_column("system_prompt_template", default="default"),
    revision_column(),
    ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
    ForeignKeyConstraint(["ai_model_id", "user_id"], ["ai_models.id", "ai_models.user_id"]),
    ForeignKeyConstraint(["exchange_id", "user_id"], ["exchanges.id", "exchanges.user_id"]),
    Index(None, "user_id", "id"),
    Index(None, "ai_model_id", "user_id"),
    Index(None, "exchange_id", "user_id"),
)


@dataclass(frozen=True, slots=True)
class Trader:
    """A trader; `trading_symbols` and `custom_coins` are symbols joined by commas."""

    id: str
    user_id: str
    name: str
    ai_model_id: str
    exchange_id: str
    initial_balance: float
    scan_interval_minutes: int
    is_running: bool
    btc_eth_leverage: int
    altcoin_leverage: int
    trading_symbols: str
    use_coin_pool: bool
    use_oi_top: bool
    created_at: datetime
    updated_at: datetime
    custom_prompt: str
    override_base_prompt: bool
    is_cross_margin: bool
    use_default_coins: bool
    custom_coins: str
    system_prompt_template: str
    revision: int


resource = Resource(Kind.TRADER, traders, Trader, key=("user_id", "id"), owner=users.resource)


# What a trader's foreign keys refer to.  Only the columns that are looked at: the tables are declared by their own
# modules, which know this one.
_models = table("ai_models", column("id"), column("user_id"))
_exchanges = table("exchanges", column("id"), column("user_id"))

_OF_USER = traders.c.user_id == bindparam("user_id")
_IDS = select(traders.c.id).where(_OF_USER).order_by(traders.c.id)
_BY_MODEL = select(traders.c.id).where(_OF_USER, traders.c.ai_model_id == bindparam("id")).order_by(traders.c.id)
_BY_EXCHANGE = select(traders.c.id).where(_OF_USER, traders.c.exchange_id == bindparam("id")).order_by(traders.c.id)
_SYMBOLS = union(
    select(traders.c.trading_symbols).where(traders.c.trading_symbols != ""),
    select(traders.c.custom_coins).where(traders.c.custom_coins != ""),
)
_SYMBOLS_OF_USER = union(
    select(traders.c.trading_symbols).where(_OF_USER, traders.c.trading_symbols != ""),
    select(traders.c.custom_coins).where(_OF_USER, traders.c.custom_coins != ""),
)


_HAS_MODEL = select(_models.c.id).where(_models.c.user_id == bindparam("user_id"), _models.c.id == bindparam("id"))
_HAS_EXCHANGE = select(_exchanges.c.id).where(
    _exchanges.c.user_id == bindparam("user_id"), _exchanges.c.id == bindparam("id")
)


def create(connection: Connection, draft: Trader) -> Trader:
    """Insert a trader.  Raises AlreadyExists, and NotFound for a user, model or exchange that is not this user's."""
    users.resource.get(connection, draft.user_id)
    _check_references(connection, draft)
    return resource.create(connection, draft)


def update(
    connection: Connection,
    key: tuple[str, str],
    etag: str,
    change: Callable[[Trader], Trader],
    draft: Callable[[], Trader] | None = None,
) -> Trader:
    """Change a trader, or create it from `draft`.  Raises as `Resource.update`, and NotFound as `create`."""

    def checked(current: Trader) -> Trader:
        changed = change(current)
        if (changed.ai_model_id, changed.exchange_id) != (current.ai_model_id, current.exchange_id):
            _check_references(connection, changed)
        return changed

    if draft is not None and resource.find(connection, *key) is None:
        return create(connection, draft())
    return resource.update(connection, key, etag, checked)


def delete(
    connection: Connection, key: tuple[str, str], etag: str, claims: logs.Claims, *, allow_missing: bool
) -> None:
    """Delete a trader; its decision records are its user's for good.  Raises as `Resource.delete`."""
    logs.claim(connection, claims)
    resource.delete(connection, key, etag, allow_missing=allow_missing)


def _check_references(connection: Connection, trader: Trader) -> None:
    """Raises NotFound unless the trader's model and exchange are its own user's."""
    model = {"user_id": trader.user_id, "id": trader.ai_model_id}
    if connection.execute(_HAS_MODEL, model).one_or_none() is None:
        raise NotFound(Kind.MODEL, trader.ai_model_id)
    exchange = {"user_id": trader.user_id, "id": trader.exchange_id}
    if connection.execute(_HAS_EXCHANGE, exchange).one_or_none() is None:
        raise NotFound(Kind.EXCHANGE, trader.exchange_id)


def of_user(connection: Connection, user_id: str) -> list[str]:
    """The ids of a user's traders."""
    return list(connection.execute(_IDS, {"user_id": user_id}).scalars())


def using_model(connection: Connection, user_id: str, id: str) -> list[str]:
    """The ids of the traders that use a model."""
    return list(connection.execute(_BY_MODEL, {"user_id": user_id, "id": id}).scalars())


def using_exchange(connection: Connection, user_id: str, id: str) -> list[str]:
    """The ids of the traders that use an exchange."""
    return list(connection.execute(_BY_EXCHANGE, {"user_id": user_id, "id": id}).scalars())


def symbol_lists(connection: Connection, user_id: str) -> list[str]:
    """Every different text of symbols that the traders of a user, or of all users for '', have."""
    if user_id:
        return list(connection.execute(_SYMBOLS_OF_USER, {"user_id": user_id}).scalars())
    return list(connection.execute(_SYMBOLS).scalars())
