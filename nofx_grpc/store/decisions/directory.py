"""Whether a directory is the one that has the decision logs of a database: both know one id.

Servers of one database must see the same files.  Of two that do not share a disk each would take the other's records
for gone; so the second one is refused.
"""

import asyncio
import uuid
from typing import Final

import structlog
from sqlalchemy import Connection, bindparam, select, update

from nofx_grpc.errors import StartError
from nofx_grpc.store.decisions import marks, removed
from nofx_grpc.store.decisions.folders import Folders
from nofx_grpc.store.engine import Database
from nofx_grpc.store.revisions import store_state

_TRIES: Final = 20  # another worker may be about to mark the directory
_PAUSE_SECONDS: Final = 0.1
_GET = select(store_state.c.decision_logs_id)
_SET = update(store_state).values(decision_logs_id=bindparam("value"))

logger = structlog.get_logger(__name__)


async def check(db: Database, folders: Folders) -> None:
    """Mark the directory of a database that has none yet.  Raises StartError for one that is not its own.

    A SQLite database is on this machine, and so are all its servers: a directory that has lost its mark was emptied.
    One that cannot be written to is not marked.
    """
    known, on_one_machine = (await db.read(_read)).value
    found = await asyncio.to_thread(marks.read, folders.root)
    if found is None and (not known or (on_one_machine and folders.is_there())):
        try:
            found = await asyncio.to_thread(marks.make, folders.root, known or str(uuid.uuid4()))
        except OSError as error:
            logger.warning("decision_logs_not_marked", path=str(folders.root), error=error.strerror)
            return
    if found is None and on_one_machine:
        logger.warning("decision_logs_missing", path=str(folders.root))
        return
    if not known and found is not None:
        known = (await db.write(_claim, found)).value
    for _ in range(_TRIES):
        if found is not None:
            break
        await asyncio.sleep(_PAUSE_SECONDS)
        found = await asyncio.to_thread(marks.read, folders.root)
    if found != known:
        raise StartError(
            f"NOFX_GRPC_DECISION_LOGS_DIR is {folders.root}, and that is not the directory which has the decision logs "
            "of this database: all its servers must see the same one. If they have no disk in common, set "
            "NOFX_GRPC_DECISION_LOGS=database; if the logs are here from now on, run 'nofx-grpc decisions reindex'"
        )
    folders.mark = found


async def take(db: Database, folders: Folders) -> None:
    """Make a directory the one that has the decision logs, whichever it was before.  Raises StartError."""
    try:
        found = await asyncio.to_thread(marks.make, folders.root, str(uuid.uuid4()))
    except OSError as error:
        raise StartError(f"{folders.root} cannot be written: {error.strerror}") from error
    await db.write(_change_to, found)
    folders.mark = found


def _read(connection: Connection) -> tuple[str, bool]:
    """The id of the directory that the database has, '' for none yet; and whether it is a file on this machine."""
    return connection.execute(_GET).scalar_one(), connection.dialect.name == "sqlite"


def _claim(connection: Connection, id: str) -> str:
    """Set the id if there is none yet; what it is now."""
    known: str = connection.execute(_GET).scalar_one()
    return known or _set(connection, id)


def _change_to(connection: Connection, id: str) -> None:
    """Set the id; of records that were removed from another directory this one may have files."""
    known, _ = _read(connection)
    if known != id:
        removed.forget_all(connection)
        _set(connection, id)


def _set(connection: Connection, id: str) -> str:
    connection.execute(_SET, {"value": id})
    return id
