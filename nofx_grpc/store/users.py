"""Users: who may log in, and whose models, exchanges and traders there are (spec §2.1)."""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import BigInteger, Column, Connection, Table, UniqueConstraint, bindparam, select

from nofx_grpc.errors import NotFound
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

DEFAULT_USER = "default"  # owns the templates; cannot log in


users = Table(
    "users",
    metadata,
    key_column("id", primary_key=True),
    key_column("email"),
    text_column("password_hash"),
    text_column("otp_secret"),
    flag_column("otp_verified"),
    time_column("created_at"),
    time_column("updated_at"),
    revision_column(),
    # The lower-case e-mail; for an adopted user whose e-mail differs from another's only by case, its exact form with
    # a mark.
    key_column("email_key"),
    Column("otp_last_step", BigInteger),
    time_column("registration_expires_at", nullable=True),
    rewrites_column(),
    UniqueConstraint("email"),
    UniqueConstraint("email_key"),
)


@dataclass(frozen=True, slots=True)
class User:
    """A user; `otp_secret` is sealed."""

    id: str
    email: str
    password_hash: str = field(repr=False)
    otp_secret: str = field(repr=False)
    otp_verified: bool
    created_at: datetime
    updated_at: datetime
    revision: int
    email_key: str
    registration_expires_at: datetime | None


resource = Resource(Kind.USER, users, User, key=("id",), secrets=("otp_secret",), hidden=("password_hash",))

_BY_EMAIL = select(users.c.id).where(users.c.email == bindparam("email"))
_BY_EMAIL_KEY = select(users.c.id).where(users.c.email_key == bindparam("email_key"))


def get_by_email(connection: Connection, email: str) -> User:
    """The user with exactly this e-mail, else the one with it in another case.  Raises NotFound."""
    id = connection.execute(_BY_EMAIL, {"email": email}).scalar_one_or_none()
    if id is None:
        id = connection.execute(_BY_EMAIL_KEY, {"email_key": email.lower()}).scalar_one_or_none()
    if id is None:
        raise NotFound(Kind.USER, email)
    return resource.get(connection, id)
