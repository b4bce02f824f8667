"""Exchanges: a user's account at a crypto exchange (spec §2.3, the form for several users)."""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, ForeignKeyConstraint, Index, Table

from nofx_grpc.errors import InUse
from nofx_grpc.store import traders, users
from nofx_grpc.store.metadata import (
    flag_column,
    key_column,
    metadata,
    revision_column,
    rewrites_column,
    text_column,
    time_column,
)
from nofx_grpc.store.resources import Resource
from nofx_grpc.store.revisions import Kind

exchanges = Table(
    "exchanges",
    metadata,
    key_column("id", primary_key=True),
    text_column("user_id", default="default", primary_key=True),
    key_column("name"),
    key_column("type"),
    flag_column("enabled"),
    text_column("api_key"),
    text_column("secret_key"),
    flag_column("testnet"),
    text_column("hyperliquid_wallet_addr"),
    text_column("aster_user"),
    text_column("aster_signer"),
    text_column("aster_private_key"),
    time_column("created_at"),
    time_column("updated_at"),
    revision_column(),
    rewrites_column(),
    ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
    Index(None, "user_id", "id"),
)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A user's exchange account; `api_key`, `secret_key` and `aster_private_key` are sealed."""

    id: str
    user_id: str
    name: str
    type: str
    enabled: bool
    api_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    testnet: bool
    hyperliquid_wallet_addr: str
    aster_user: str
    aster_signer: str
    aster_private_key: str = field(repr=False)
    created_at: datetime
    updated_at: datetime
    revision: int


resource = Resource(
    Kind.EXCHANGE,
    exchanges,
    Exchange,
    key=("user_id", "id"),
    secrets=("api_key", "secret_key", "aster_private_key"),
    owner=users.resource,
)


def delete(connection: Connection, user_id: str, id: str, etag: str, *, allow_missing: bool) -> None:
    """Delete an exchange.  Raises NotFound, EtagMismatch, and InUse naming the traders that trade on it."""
    if users_of := traders.using_exchange(connection, user_id, id):
        raise InUse(Kind.EXCHANGE, id, by="the traders", users=users_of)
    resource.delete(connection, (user_id, id), etag, allow_missing=allow_missing)
