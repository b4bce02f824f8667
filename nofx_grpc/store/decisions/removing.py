"""Deletes the files of records that are out of the index."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import structlog

from nofx_grpc.errors import NofxError, StoreUnavailable
from nofx_grpc.store.decisions import removed
from nofx_grpc.store.decisions.folders import Folders
from nofx_grpc.store.engine import Database

AT_ONCE: Final = 500  # files that are deleted, and notes that are forgotten, at one time

logger = structlog.get_logger(__name__)


class Removing:
    """Deletes files, and again those that come late, as long as it is written down that their records are removed."""

    def __init__(self, db: Database, folders: Folders) -> None:
        self._db, self._folders = db, folders

    async def delete(self, folder: str, ids: Sequence[str]) -> None:
        """Raises StoreUnavailable for files that stay, for now."""
        try:
            await asyncio.to_thread(self._folders.remove, folder, ids)
        except NofxError as error:
            raise StoreUnavailable(
                f"what was pruned is in no list any more, but its files stay: {error.message}"
            ) from error

    async def finish(self, log_id: int, folder: str) -> None:
        """Delete the files that there are of all removed records of a log.  Raises as `delete`."""
        after = ""
        while ids := (await self._db.scan(removed.after, log_id, after, AT_ONCE)).value:
            await self._delete_left(log_id, folder, ids)
            after = ids[-1]

    async def forget(self, before: datetime) -> int:
        """Forget what was removed before a time, once it has no file any more; how many records that were."""
        done = 0
        for log_id, folder in (await self._db.scan(removed.with_old, before)).value:
            try:
                while ids := (await self._db.scan(removed.old, log_id, before, AT_ONCE)).value:
                    await self._delete_left(log_id, folder, ids)
                    await self._db.write(removed.forget_old, log_id, ids, before)
                    done += len(ids)
            except NofxError as error:
                logger.warning("pruned_files_stay", folder=folder, error=error.message)
        return done

    async def _delete_left(self, log_id: int, folder: str, ids: Sequence[str]) -> None:
        """Delete the files that there are of these records.

        Whoever brings records back on purpose says so first, and then writes their files: so a file that is there
        while its record is still said to be removed is none of those.
        """
        if there := await asyncio.to_thread(self._folders.there, folder, ids):
            left = (await self._db.scan(removed.among, log_id, there)).value
            await self.delete(folder, sorted(left))
            logger.info("pruned_files_deleted", folder=folder, count=len(left))
