"""Signal sources: where a user's traders get coin candidates from; at most one for each user (spec §2.4)."""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Column, ForeignKeyConstraint, Integer, Table, UniqueConstraint

from nofx_grpc.store import users
from nofx_grpc.store.metadata import (
    key_column,
    metadata,
    revision_column,
    rewrites_column,
    text_column,
    time_column,
)
from nofx_grpc.store.resources import Resource
from nofx_grpc.store.revisions import Kind

user_signal_sources = Table(
    "user_signal_sources",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),  # NOFX's; nothing refers to it
    key_column("user_id"),
    text_column("coin_pool_url"),
    text_column("oi_top_url"),
    time_column("created_at"),
    time_column("updated_at"),
    revision_column(),
    rewrites_column(),
    UniqueConstraint("user_id"),
    ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
)


@dataclass(frozen=True, slots=True)
class SignalSource:
    """A user's signal source; both URLs are sealed, for they may carry credentials."""

    user_id: str
    coin_pool_url: str = field(repr=False)
    oi_top_url: str = field(repr=False)
    created_at: datetime
    updated_at: datetime
    revision: int


resource = Resource(
    Kind.SIGNAL_SOURCE,
    user_signal_sources,
    SignalSource,
    key=("user_id",),
    secrets=("coin_pool_url", "oi_top_url"),
    owner=users.resource,
)
