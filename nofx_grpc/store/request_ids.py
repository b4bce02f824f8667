"""Answers to writes that carried a `request_id`, kept so that a repeat gets the first answer."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, Index, LargeBinary, Column, Table, bindparam, delete, insert, select

from nofx_grpc.store import revisions
from nofx_grpc.store.metadata import key_column, metadata, time_column

request_ids = Table(
    "request_ids",
    metadata,
    key_column("principal", primary_key=True),
    key_column("request_id", primary_key=True),
    key_column("method"),
    key_column("request_hash"),
    Column("answer", LargeBinary, nullable=False),  # sealed: it may hold a token or an OTP secret
    time_column("created_at"),
    Index(None, "created_at"),
)


class Answered(NamedTuple):
    """A request that was answered before."""

    method: str
    request_hash: str
    answer: bytes
    created_at: datetime


_FIND = select(request_ids.c.method, request_ids.c.request_hash, request_ids.c.answer, request_ids.c.created_at).where(
    request_ids.c.principal == bindparam("principal"), request_ids.c.request_id == bindparam("request_id")
)
_INSERT = insert(request_ids)
_DELETE_BEFORE = delete(request_ids).where(request_ids.c.created_at < bindparam("before"))


def find(connection: Connection, principal: str, request_id: str) -> Answered | None:
    row = connection.execute(_FIND, {"principal": principal, "request_id": request_id}).one_or_none()
    return None if row is None else Answered(*row)


def remember(
    connection: Connection, principal: str, request_id: str, *, method: str, request_hash: str, answer: bytes
) -> None:
    """Keep a sealed answer, in the transaction of the write that it answers."""
    values = {"principal": principal, "request_id": request_id, "method": method, "request_hash": request_hash}
    connection.execute(_INSERT, values | {"answer": answer, "created_at": revisions.scope(connection).now})


def forget_before(connection: Connection, before: datetime) -> int:
    """Delete what was kept before `before`, and tell how many answers that were."""
    return connection.execute(_DELETE_BEFORE, {"before": before}).rowcount
