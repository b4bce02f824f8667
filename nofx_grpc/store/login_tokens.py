"""Login tokens that were spent: each is good for one use (design: `Authenticate`, then `VerifyOtp`)."""

from datetime import datetime

from sqlalchemy import Connection, Index, Table, bindparam, delete, insert, select

from nofx_grpc.store.metadata import key_column, metadata, time_column

spent_login_tokens = Table(
    "spent_login_tokens",
    metadata,
    key_column("id", primary_key=True),
    time_column("expires_at"),
    Index(None, "expires_at"),
)

_FIND = select(spent_login_tokens.c.id).where(spent_login_tokens.c.id == bindparam("id"))
_INSERT = insert(spent_login_tokens)
_OLDEST = (
    select(spent_login_tokens.c.id)
    .where(spent_login_tokens.c.expires_at < bindparam("before"))
    .order_by(spent_login_tokens.c.expires_at)
    .limit(bindparam("limit"))
)
_DELETE_BEFORE = delete(spent_login_tokens).where(spent_login_tokens.c.id.in_(_OLDEST))


def spend(connection: Connection, id: str, expires_at: datetime) -> bool:
    """Mark a login token as spent.  False if it was spent before."""
    if connection.execute(_FIND, {"id": id}).one_or_none() is not None:
        return False
    connection.execute(_INSERT, {"id": id, "expires_at": expires_at})
    return True


def forget_before(connection: Connection, before: datetime, limit: int) -> int:
    """Delete at most `limit` of those that have expired before `before`, and tell how many that were."""
    return connection.execute(_DELETE_BEFORE, {"before": before, "limit": limit}).rowcount
