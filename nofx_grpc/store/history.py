"""Whether the revisions that were seen are still those of the database: after a failover they may not be.

A standby that replicates asynchronously may lack the last commits of the primary whose place it takes, and then gives
their revisions to others.  Nobody can tell from the rows.  PostgreSQL itself tells that it was promoted: each time its
timeline gets another number.  So each transaction that writes compares the timeline with that of the last one, and
where it is another, a new history begins, before anything is committed in it.  Each transaction, and not each
connection: a pooler keeps that over a failover.
"""

import uuid
from typing import NamedTuple

import structlog
from sqlalchemy import Column, Connection, Integer, Table, update

from nofx_grpc.store.backend import Backend
from nofx_grpc.store.metadata import metadata, text_column
from nofx_grpc.store.reads import Committed
from nofx_grpc.store.revisions import store_state

logger = structlog.get_logger(__name__)

# Of the place and not of the content: it is not copied to another database.
database_timeline = Table(
    "database_timeline",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1
    text_column("timeline"),  # '' until somebody has connected, and where the engine has none
)


class Position(NamedTuple):
    """How far the store is, the timeline of the database, and that of the last transaction that wrote.

    Both are '' where the engine has none.
    """

    committed: Committed
    timeline: str
    written: str


def connect(backend: Backend) -> tuple[Connection, Position]:
    """A connection that may write, in the history that what it commits belongs to."""
    connection = backend.open_writer()
    try:
        position = _position(backend, connection)
        if position.written != position.timeline:
            _settle(backend, connection, position)
        return connection, position
    except BaseException:
        connection.close()
        raise


def begin(backend: Backend, connection: Connection) -> Position:
    """Begin a transaction that may write, in the history that what it commits belongs to.

    A connection that cannot is lost.
    """
    connection.exec_driver_sql(backend.begin_write)
    try:
        position = _position(backend, connection)
        if position.written == position.timeline:
            return position
        connection.exec_driver_sql("ROLLBACK")
        _settle(backend, connection, position)
    except Exception:
        connection.invalidate()  # to a standby, maybe: who tries again is to look for the primary
        raise
    return begin(backend, connection)


def _position(backend: Backend, connection: Connection) -> Position:
    """Read on the driver: through Core it would cost more than the database takes for it."""
    row = connection.connection.cursor().execute(backend.position).fetchone()
    return Position(Committed(*row[:3]), *row[3:])


def _settle(backend: Backend, connection: Connection, position: Position) -> None:
    """Begin a new history: the database was promoted since the last transaction that wrote."""
    before = database_timeline.c.timeline == position.written
    move = update(database_timeline).where(before).values(timeline=position.timeline)
    if not position.written:  # the first who connects: there is nothing that could be lost
        connection.execute(move)
        return
    connection.exec_driver_sql(backend.begin_write)
    try:
        if connection.execute(move).rowcount:  # else another process was faster
            connection.execute(update(store_state).values(history_id=str(uuid.uuid4())))
            was, timeline = position.written, position.timeline
            logger.warning("history_begun", reason="the database was promoted", was=was, timeline=timeline)
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        if backend.in_transaction(connection):
            connection.exec_driver_sql("ROLLBACK")
        raise
