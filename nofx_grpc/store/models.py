"""AI models: a user's access to a language model (spec §2.2)."""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, ForeignKeyConstraint, Index, Table, UniqueConstraint

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

ai_models = Table(
    "ai_models",
    metadata,
    key_column("id", primary_key=True),
    text_column("user_id", default="default"),
    key_column("name"),
    key_column("provider"),
    flag_column("enabled"),
    text_column("api_key"),
    time_column("created_at"),
    time_column("updated_at"),
    text_column("custom_api_url"),
    text_column("custom_model_name"),
    revision_column(),
    rewrites_column(),
    UniqueConstraint("id", "user_id"),  # what the traders' foreign key refers to
    ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
    Index(None, "user_id", "id"),
)


@dataclass(frozen=True, slots=True)
class Model:
    """A user's AI model; `api_key` and `custom_api_url` are sealed."""

    id: str
    user_id: str
    name: str
    provider: str
    enabled: bool
    api_key: str = field(repr=False)
    created_at: datetime
    updated_at: datetime
    custom_api_url: str = field(repr=False)
    custom_model_name: str
    revision: int


resource = Resource(
    Kind.MODEL, ai_models, Model, key=("user_id", "id"), secrets=("api_key", "custom_api_url"), owner=users.resource
)


def delete(connection: Connection, user_id: str, id: str, etag: str, *, allow_missing: bool) -> None:
    """Delete a model.  Raises NotFound, EtagMismatch, and InUse naming the traders that it decides for."""
    if users_of := traders.using_model(connection, user_id, id):
        raise InUse(Kind.MODEL, id, by="the traders", users=users_of)
    resource.delete(connection, (user_id, id), etag, allow_missing=allow_missing)
