"""Files for records whose bodies wait in the database: of a process that was killed, or because it was their home."""

import asyncio

import structlog

from nofx_grpc.decisions.names import SUFFIX
from nofx_grpc.errors import NofxError
from nofx_grpc.store.decisions import bodies
from nofx_grpc.store.decisions.bodies import Waiting
from nofx_grpc.store.decisions.folders import Folders
from nofx_grpc.store.engine import Database

logger = structlog.get_logger(__name__)


class Naming:
    """Makes files of bodies.  To do it while whoever appended does it too does no harm: both files are the same."""

    def __init__(self, db: Database, folders: Folders) -> None:
        self._db, self._folders = db, folders

    async def see_to(self, record: Waiting) -> bool:
        """Whether the record has its file for good now; its body is not kept any more then."""
        kept = (await self._db.scan(bodies.some, record.log_id, [record.id])).value.get(record.id)
        if kept is None:
            return False  # whoever appended it was faster
        try:
            await asyncio.to_thread(self._make_file, record, kept)
        except NofxError as error:
            logger.warning("decision_not_named", folder=record.folder, id=record.id, error=error.message)
            return False
        await self._db.write(bodies.forget, record.log_id, [record.id])
        return True

    def _make_file(self, record: Waiting, kept: bytes) -> None:
        """Give a record its file.  One that is there is whole, and somebody may have changed it since."""
        if self._folders.has(record.folder, record.id + SUFFIX):
            self._folders.settle(record.folder)
        else:
            self._folders.put(record.folder, record.id + SUFFIX, bodies.decompress(kept))
