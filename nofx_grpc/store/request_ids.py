"""Answers to writes that carried a `request_id`, kept so that a repeat gets the first answer."""

from datetime import datetime, timedelta

from sqlalchemy import Column, Connection, Index, LargeBinary, Table, bindparam, delete, insert, select, tuple_

from nofx_grpc.store import revisions
from nofx_grpc.store.metadata import key_column, metadata, time_column

request_ids = Table(
    "request_ids",
    metadata,
    key_column("principal", primary_key=True),
    key_column("request_id", primary_key=True),
    key_column("method"),
    Column("answer", LargeBinary, nullable=False),  # sealed: the request's hash, and the answer
    time_column("created_at"),
    Index(None, "created_at"),
)


_FIND = select(request_ids.c.answer, request_ids.c.created_at).where(
    request_ids.c.principal == bindparam("principal"), request_ids.c.request_id == bindparam("request_id")
)
_INSERT = insert(request_ids)
_DELETE = delete(request_ids).where(
    request_ids.c.principal == bindparam("principal"), request_ids.c.request_id == bindparam("request_id")
)
_OLDEST = (
    select(request_ids.c.principal, request_ids.c.request_id)
    .where(request_ids.c.created_at < bindparam("before"))
    .order_by(request_ids.c.created_at)
    .limit(bindparam("limit"))
)
_DELETE_BEFORE = delete(request_ids).where(tuple_(request_ids.c.principal, request_ids.c.request_id).in_(_OLDEST))


def find(connection: Connection, principal: str, request_id: str, within: timedelta | None = None) -> bytes | None:
    """The sealed answer that was given to this request id of this principal; one older than `within` is forgotten."""
    key = {"principal": principal, "request_id": request_id}
    row = connection.execute(_FIND, key).one_or_none()
    if row is None:
        return None
    if within is not None and row.created_at + within <= revisions.scope(connection).now:
        connection.execute(_DELETE, key)
        return None
    return bytes(row.answer)


def remember(connection: Connection, principal: str, request_id: str, *, method: str, answer: bytes) -> None:
    """Keep a sealed answer, in the transaction of the write that it answers."""
    now = revisions.scope(connection).now
    values = {"principal": principal, "request_id": request_id, "method": method, "answer": answer, "created_at": now}
    connection.execute(_INSERT, values)


def forget_before(connection: Connection, before: datetime, limit: int) -> int:
    """Delete at most `limit` answers kept before `before`, the oldest first, and tell how many that were."""
    return connection.execute(_DELETE_BEFORE, {"before": before, "limit": limit}).rowcount
