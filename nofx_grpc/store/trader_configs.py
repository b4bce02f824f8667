"""All that a trader is configured by, read by one statement at one revision."""

from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, TypeAlias

from sqlalchemy import Connection, Table, and_, bindparam, select, tuple_

from nofx_grpc.errors import NotFound
from nofx_grpc.store.changes import Change
from nofx_grpc.store.exchanges import Exchange, exchanges
from nofx_grpc.store.models import Model, ai_models
from nofx_grpc.store.revisions import Kind, store_state
from nofx_grpc.store.signal_sources import SignalSource, user_signal_sources
from nofx_grpc.store.system_config import system_config
from nofx_grpc.store.traders import Trader, of_user, traders, using_exchange, using_model

# The settings of the whole system that bound every trader's risk.
RISK_KEYS = (
    "max_daily_loss",
    "max_drawdown",
    "stop_trading_minutes",
    "btc_eth_leverage",
    "altcoin_leverage",
    "use_default_coins",
    "default_coins",
)


# The kinds that a configuration is made of, apart from the risk settings.
PARTS = frozenset({Kind.TRADER, Kind.MODEL, Kind.EXCHANGE, Kind.SIGNAL_SOURCE})

Key: TypeAlias = tuple[str, str]  # a trader's user and id
FIRST: Key = ("", "")  # comes before every key


@dataclass(frozen=True, slots=True)
class TraderConfig:
    """A trader with its model, exchange and signal source, None where there is none, and the stored risk settings."""

    trader: Trader
    model: Model | None
    exchange: Exchange | None
    signal_source: SignalSource | None
    risk: dict[str, str]
    revision: int


def _columns(table: Table, record: type) -> list[Any]:
    return [table.c[field.name] for field in fields(record)]


_PARTS = ((traders, Trader), (ai_models, Model), (exchanges, Exchange), (user_signal_sources, SignalSource))
_CUTS = [0]
for _, _record in _PARTS:
    _CUTS.append(_CUTS[-1] + len(fields(_record)))

_ALL = (
    select(
        *(column for table, record in _PARTS for column in _columns(table, record)),
        select(store_state.c.revision).scalar_subquery(),
        *(select(system_config.c.value).where(system_config.c.key == key).scalar_subquery() for key in RISK_KEYS),
    )
    .select_from(traders)
    .outerjoin(ai_models, and_(ai_models.c.id == traders.c.ai_model_id, ai_models.c.user_id == traders.c.user_id))
    .outerjoin(exchanges, and_(exchanges.c.id == traders.c.exchange_id, exchanges.c.user_id == traders.c.user_id))
    .outerjoin(user_signal_sources, user_signal_sources.c.user_id == traders.c.user_id)
)
_KEY = traders.c.user_id, traders.c.id
_OF_USER = traders.c.user_id == bindparam("user_id")
_BY_KEY = _ALL.where(_OF_USER, traders.c.id == bindparam("id"))
_PAGE = _ALL.where(tuple_(*_KEY) > tuple_(bindparam("after_user"), bindparam("after_id"))).order_by(*_KEY)
_PAGE = _PAGE.limit(bindparam("limit"))
_PAGE_OF_USER = _PAGE.where(_OF_USER)


def get(connection: Connection, user_id: str, trader_id: str) -> TraderConfig:
    """Everything that one trader is configured by.  Raises NotFound if this user has no such trader."""
    row = connection.execute(_BY_KEY, {"user_id": user_id, "id": trader_id}).one_or_none()
    if row is None:
        raise NotFound(Kind.TRADER, trader_id)
    return _from_row(tuple(row))


def find(connection: Connection, key: Key) -> TraderConfig | None:
    """Everything that one trader is configured by; None if there is no such trader."""
    row = connection.execute(_BY_KEY, {"user_id": key[0], "id": key[1]}).one_or_none()
    return None if row is None else _from_row(tuple(row))


def page(connection: Connection, user_id: str, after: Key, limit: int) -> list[TraderConfig]:
    """At most `limit` configurations in the order of their keys, after one, of a user or ('') of all."""
    parameters: dict[str, object] = {"after_user": after[0], "after_id": after[1], "limit": limit}
    if not user_id:
        return [_from_row(tuple(row)) for row in connection.execute(_PAGE, parameters)]
    return [_from_row(tuple(row)) for row in connection.execute(_PAGE_OF_USER, parameters | {"user_id": user_id})]


def concerns_all(change: Change) -> bool:
    """Whether a change is part of every trader's configuration."""
    return change.kind == Kind.CONFIG_ENTRY and change.id in RISK_KEYS


def concerned(connection: Connection, change: Change) -> list[Key]:
    """The traders whose configuration a change is part of, unless it is part of every one."""
    if change.kind == Kind.TRADER:
        return [(change.user_id, change.id)]
    if change.kind == Kind.MODEL:
        ids = using_model(connection, change.user_id, change.id)
    elif change.kind == Kind.EXCHANGE:
        ids = using_exchange(connection, change.user_id, change.id)
    elif change.kind == Kind.SIGNAL_SOURCE:
        ids = of_user(connection, change.user_id)
    else:
        return []
    return [(change.user_id, id) for id in ids]


def _from_row(row: tuple[Any, ...]) -> TraderConfig:
    parts = [row[start:end] for start, end in pairwise(_CUTS)]
    revision, *risk = row[_CUTS[-1] :]
    return TraderConfig(
        Trader(*parts[0]),
        # The first column of each is part of its key, so it is NULL only where the outer join found nothing.
        Model(*parts[1]) if parts[1][0] is not None else None,
        Exchange(*parts[2]) if parts[2][0] is not None else None,
        SignalSource(*parts[3]) if parts[3][0] is not None else None,
        {key: value for key, value in zip(RISK_KEYS, risk, strict=True) if value is not None},
        revision,
    )
