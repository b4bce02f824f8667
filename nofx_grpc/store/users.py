"""Users: who may log in, and whose models, exchanges and traders there are (spec §2.1)."""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import BigInteger, Column, Connection, Index, Table, UniqueConstraint, bindparam, or_, select, update

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
    # Both set only while a registration that was begun here is not complete.
    time_column("registration_expires_at", nullable=True),
    text_column("registration_code"),
    rewrites_column(),
    UniqueConstraint("email"),
    UniqueConstraint("email_key"),
    Index(None, "registration_expires_at"),
)


@dataclass(frozen=True, slots=True)
class User:
    """A user; `otp_secret` is sealed.  `registration_code` is the beta code that an unfinished registration spent."""

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
    registration_code: str = field(repr=False)

    @property
    def can_log_in(self) -> bool:
        """Whether there is a password, and no registration to complete."""
        return bool(self.password_hash) and self.otp_verified and self.id != DEFAULT_USER


resource = Resource(
    Kind.USER,
    users,
    User,
    key=("id",),
    secrets=("otp_secret",),
    hidden=("password_hash", "registration_code"),
    user_column="id",
)

_BY_EMAIL = select(users.c.id).where(users.c.email == bindparam("email"))
_BY_EMAIL_KEY = select(users.c.id).where(users.c.email_key == bindparam("email_key"))
_EXPIRED = (
    select(users.c.id)
    .where(users.c.registration_expires_at <= bindparam("now"))
    .order_by(users.c.registration_expires_at)
    .limit(bindparam("limit"))
)
_REWRITE = update(users).where(users.c.id == bindparam("key"))
_REHASH = _REWRITE.values(password_hash=bindparam("hash"), rewrites=users.c.rewrites + 1)
_FORGET_STEP = _REWRITE.values(otp_last_step=None, rewrites=users.c.rewrites + 1)
_LAST_STEP = select(users.c.otp_last_step).where(users.c.id == bindparam("key"))
_ACCEPT_STEP = _REWRITE.where(or_(users.c.otp_last_step.is_(None), users.c.otp_last_step < bindparam("step"))).values(
    otp_last_step=bindparam("step"), rewrites=users.c.rewrites + 1
)


def key_of_email(email: str) -> str:
    """What is the same for e-mails that differ by case only."""
    return email.lower()


def find_by_email(connection: Connection, email: str) -> User | None:
    """The user with exactly this e-mail, else the one with it in another case, else None."""
    id = connection.execute(_BY_EMAIL, {"email": email}).scalar_one_or_none()
    if id is None:
        id = connection.execute(_BY_EMAIL_KEY, {"email_key": key_of_email(email)}).scalar_one_or_none()
    return None if id is None else resource.get(connection, id)


def get_by_email(connection: Connection, email: str) -> User:
    """The user that `find_by_email` finds.  Raises NotFound."""
    user = find_by_email(connection, email)
    if user is None:
        raise NotFound(Kind.USER, email, field="email")
    return user


def expired_registrations(connection: Connection, now: datetime, limit: int) -> list[User]:
    """Users whose registration was not completed in time, at most `limit`."""
    ids = connection.execute(_EXPIRED, {"now": now, "limit": limit}).scalars().all()
    return [resource.get(connection, id) for id in ids]


def rehash(connection: Connection, id: str, hash: str) -> None:
    """Store the same password's hash by a newer scheme: nothing that a client can see changes."""
    connection.execute(_REHASH, {"key": id, "hash": hash})


def last_step(connection: Connection, id: str) -> int | None:
    """The time step of the last one-time code that was accepted from a user."""
    step: int | None = connection.execute(_LAST_STEP, {"key": id}).scalar_one()
    return step


def accept_step(connection: Connection, id: str, step: int) -> bool:
    """Note that the code of a time step was accepted.  False if that one, or a later one, was before."""
    return connection.execute(_ACCEPT_STEP, {"key": id, "step": step}).rowcount == 1


def forget_step(connection: Connection, id: str) -> None:
    """Forget which code was accepted last: a new secret has codes of its own."""
    connection.execute(_FORGET_STEP, {"key": id})
