"""Whether the revisions that were seen are still those of the database: after a failover they may not be.

A standby that replicates asynchronously may lack the last commits of the primary whose place it takes, and then gives
their revisions to others.  Nobody can tell from the rows.  PostgreSQL itself tells that it was promoted: each time its
timeline gets another number.  So whoever connects to write compares the timeline with that of the last time, and where
it is another, begins a new history, before anything is committed in it.
"""

import uuid

import structlog
from sqlalchemy import Column, Connection, Integer, Table, select, update

from nofx_grpc.store.backend import Backend
from nofx_grpc.store.metadata import metadata, text_column
from nofx_grpc.store.revisions import store_state

logger = structlog.get_logger(__name__)

# Of the place and not of the content: it is not copied to another database.
database_timeline = Table(
    "database_timeline",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1
    text_column("timeline"),  # '' until somebody has connected, and where the engine has none
)

_TIMELINE = select(database_timeline.c.timeline)


def connect(backend: Backend) -> Connection:
    """A connection that may write, in the history that what it commits belongs to."""
    connection = backend.open_writer()
    try:
        _settle(backend, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _settle(backend: Backend, connection: Connection) -> None:
    """Begin a new history if the database was promoted since somebody connected to write."""
    timeline = backend.timeline(connection)
    before = connection.execute(_TIMELINE).scalar_one() if timeline else ""
    if before == timeline:
        return
    moved = update(database_timeline).where(database_timeline.c.timeline == before).values(timeline=timeline)
    if not before:  # the first who connects
        connection.execute(moved)
        return
    connection.exec_driver_sql(backend.begin_write)
    try:
        if connection.execute(moved).rowcount:  # else another process was faster
            connection.execute(update(store_state).values(history_id=str(uuid.uuid4())))
            logger.warning("history_begun", reason="the database was promoted", was=before, timeline=timeline)
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        if backend.in_transaction(connection):
            connection.exec_driver_sql("ROLLBACK")
        raise
