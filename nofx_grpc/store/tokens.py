"""Bearer tokens: only the SHA-256 of each is stored."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import Connection, Table, bindparam, func, or_, select, update
from sqlalchemy import insert as insert_into

from nofx_grpc.errors import NotFound, Unauthenticated
from nofx_grpc.store import revisions, users
from nofx_grpc.store.metadata import flag_column, key_column, metadata, text_column, time_column

tokens = Table(
    "tokens",
    metadata,
    key_column("id", primary_key=True),
    key_column("hash", unique=True),
    text_column("display_name"),
    key_column("role"),
    text_column("user_id"),
    flag_column("reveal"),
    flag_column("reveal_system"),
    flag_column("bootstrap"),
    time_column("created_at"),
    time_column("expires_at", nullable=True),
    time_column("revoked_at", nullable=True),
    time_column("last_used_at", nullable=True),
)


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token.  `user_id` limits it to one user; empty means all.  A bootstrap token works on local sockets
    only.
    """

    id: str
    hash: str = field(repr=False)
    display_name: str
    role: str
    user_id: str
    reveal: bool
    reveal_system: bool
    bootstrap: bool
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


_INSERT = insert_into(tokens)
_BY_HASH = select(tokens).where(tokens.c.hash == bindparam("hash"))
_BY_HASHES = select(tokens).where(tokens.c.hash.in_(bindparam("hashes", expanding=True)))
_BY_ID = select(tokens).where(tokens.c.id == bindparam("id"))
_PAGE = select(tokens).where(tokens.c.id > bindparam("after")).order_by(tokens.c.id).limit(bindparam("limit"))
_VALID_OF_USER = select(tokens.c.id).where(tokens.c.user_id == bindparam("user_id"), tokens.c.revoked_at.is_(None))
_VALID = (
    select(func.count())
    .select_from(tokens)
    .where(tokens.c.revoked_at.is_(None), or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > bindparam("now")))
)
_MARK_USED = update(tokens).where(tokens.c.id == bindparam("key")).values(last_used_at=bindparam("now"))
_REVOKE = update(tokens).where(tokens.c.id == bindparam("key")).values(revoked_at=bindparam("now"))


def insert(connection: Connection, token: Token) -> None:
    """Insert a token where no call is to be answered for it: at the first start."""
    connection.execute(_INSERT, {name: getattr(token, name) for name in Token.__slots__})


def create(connection: Connection, draft: Token, maker_id: str = "") -> Token:
    """Insert a token that a caller asked for, by a token or ('') not.

    Raises NotFound if the user that it is limited to does not exist.  Raises Unauthenticated if the caller's token is
    good no more: else what it had asked for in time would be there when it has been revoked, and nobody looks again.
    """
    if maker_id:
        _check_good(connection, maker_id)
    if draft.user_id:
        users.resource.get(connection, draft.user_id)
    token = replace(draft, created_at=revisions.scope(connection).now)
    insert(connection, token)
    revisions.touch(connection, "token", token.user_id, token.id, "create")
    return token


def find_by_hash(connection: Connection, hash: str) -> Token | None:
    row = connection.execute(_BY_HASH, {"hash": hash}).one_or_none()
    return None if row is None else Token(*row)


def find_by_hashes(connection: Connection, hashes: Sequence[str]) -> dict[str, Token]:
    """Those of these tokens that there are, by their hashes."""
    found = (Token(*row) for row in connection.execute(_BY_HASHES, {"hashes": hashes}))
    return {token.hash: token for token in found}


def _check_good(connection: Connection, id: str) -> None:
    row, now = connection.execute(_BY_ID, {"id": id}).one_or_none(), revisions.scope(connection).now
    if row is None or row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
        raise Unauthenticated("the token was revoked or has expired meanwhile")


class Listing:
    """Tokens in the order of their ids, revoked and expired ones too."""

    def page(self, connection: Connection, *, user_id: str, after: tuple[str, ...], limit: int) -> list[Token]:
        """At most `limit` tokens after the id `after`, whosever they are."""
        parameters = {"after": after[0] if after else "", "limit": limit}
        return [Token(*row) for row in connection.execute(_PAGE, parameters)]

    def key_of(self, record: Token) -> tuple[str, ...]:
        return (record.id,)


def mark_used(connection: Connection, ids: Sequence[str], now: datetime) -> int:
    """Note that tokens were used, and tell how many; neither a revision nor an audit record comes of it."""
    return connection.execute(_MARK_USED, [{"key": id, "now": now} for id in ids]).rowcount


def revoke(connection: Connection, id: str) -> Token:
    """Revoke a token; once revoked it keeps its first time of revocation.  Raises NotFound."""
    row = connection.execute(_BY_ID, {"id": id}).one_or_none()
    if row is None:
        raise NotFound("token", id)
    token = Token(*row)
    if token.revoked_at is None:
        connection.execute(_REVOKE, {"key": id, "now": revisions.scope(connection).now})
        revisions.touch(connection, "token", token.user_id, id, "revoke")
    return Token(*connection.execute(_BY_ID, {"id": id}).one())


def count_valid(connection: Connection, now: datetime) -> int:
    return connection.execute(_VALID, {"now": now}).scalar_one()


def revoke_of_user(connection: Connection, user_id: str) -> None:
    """Revoke every token that is limited to a user, so that none works for a later user of the same id."""
    for id in connection.execute(_VALID_OF_USER, {"user_id": user_id}).scalars().all():
        revoke(connection, id)
