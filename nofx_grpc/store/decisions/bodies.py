"""The bodies that the database keeps: all of them, or those that wait for files with their names for good."""

import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, bindparam, delete, insert, select, tuple_

from nofx_grpc.decisions.records import MOST_BYTES
from nofx_grpc.store.decisions.tables import decision_bodies, decision_logs

LEVEL: Final = 6  # on records of NOFX half their size; 9 gains nothing more
AS_IT_IS: Final = 0  # for a body that is there for a second only


class Waiting(NamedTuple):
    """A record whose body is here."""

    log_id: int
    id: str
    folder: str


_OF_LOG = decision_bodies.c.log_id == bindparam("log_id")
_THESE = decision_bodies.c.id.in_(bindparam("ids", expanding=True))
_INSERT = insert(decision_bodies)
_SOME = select(decision_bodies.c.id, decision_bodies.c.body).where(_OF_LOG, _THESE)
_IDS = select(decision_bodies.c.id).where(_OF_LOG, _THESE)
_DELETE = delete(decision_bodies).where(_OF_LOG, _THESE)
_LOG_OF_FOLDER = select(decision_logs.c.id).where(decision_logs.c.folder == bindparam("folder"))
_DELETE_OF_FOLDER = delete(decision_bodies).where(_THESE, decision_bodies.c.log_id.in_(_LOG_OF_FOLDER))
_PLACE = tuple_(decision_bodies.c.log_id, decision_bodies.c.id)
_WAITING = (
    select(decision_bodies.c.log_id, decision_bodies.c.id, decision_logs.c.folder)
    .where(decision_logs.c.id == decision_bodies.c.log_id, tuple_(bindparam("log_id"), bindparam("id")) < _PLACE)
    .order_by(decision_bodies.c.log_id, decision_bodies.c.id)
    .limit(bindparam("limit"))
)


def compress(body: bytes, level: int = LEVEL) -> bytes:
    return zlib.compress(body, level)


def decompress(kept: bytes) -> bytes:
    """The body, as it was."""
    return zlib.decompressobj().decompress(kept, MOST_BYTES)


def keep(connection: Connection, log_id: int, kept: Iterable[tuple[str, bytes]]) -> None:
    """Keep bodies of records that have none here."""
    if rows := [{"log_id": log_id, "id": id, "body": body} for id, body in kept]:
        connection.execute(_INSERT, rows)


def some(connection: Connection, log_id: int, ids: Sequence[str]) -> dict[str, bytes]:
    """The bodies that are here, as they are kept, by id."""
    return {row.id: bytes(row.body) for row in connection.execute(_SOME, {"log_id": log_id, "ids": list(ids)})}


def among(connection: Connection, log_id: int, ids: Collection[str]) -> set[str]:
    """Those of these records whose bodies are here."""
    return set(connection.execute(_IDS, {"log_id": log_id, "ids": list(ids)}).scalars())


def waiting(connection: Connection, after: tuple[int, str], limit: int) -> list[Waiting]:
    """Records whose bodies are here, in the order of log and id, from after one of them."""
    values = {"log_id": after[0], "id": after[1], "limit": limit}
    return [Waiting(*row) for row in connection.execute(_WAITING, values)]


def forget(connection: Connection, log_id: int, ids: Sequence[str]) -> None:
    """Keep these bodies no longer."""
    connection.execute(_DELETE, {"log_id": log_id, "ids": list(ids)})


def forget_named(connection: Connection, named: Mapping[str, Sequence[str]]) -> None:
    """Keep bodies no longer whose files have their names for good: ids, by folder."""
    for folder, ids in named.items():
        connection.execute(_DELETE_OF_FOLDER, {"folder": folder, "ids": list(ids)})
