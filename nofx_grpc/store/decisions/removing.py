"""Deletes the files of records that are out of the index."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

import structlog

from nofx_grpc.errors import NofxError, StoreUnavailable
from nofx_grpc.store.decisions import deletions, removed
from nofx_grpc.store.decisions.folders import Folders
from nofx_grpc.store.engine import Database

AT_ONCE: Final = 500  # files that are deleted, and notes that are forgotten, at one time

logger = structlog.get_logger(__name__)


class _Tried(NamedTuple):
    """The records that have no file now, or one that was brought back; and why others have one still."""

    gone: Sequence[str]
    why: NofxError | None = None


class Removing:
    """Deletes files, and again those that come late, as long as it is written down that their records are removed."""

    def __init__(self, db: Database, folders: Folders) -> None:
        self._db, self._folders = db, folders

    async def delete(self, log_id: int, folder: str, ids: Sequence[str]) -> int:
        """Delete the files of those of these records that nobody has brought back meanwhile; how many those are.

        What has begun is finished, be its caller gone.  Raises StoreUnavailable for files that stay, for now; the
        others are gone then.
        """
        try:
            return await asyncio.shield(self._delete(log_id, folder, ids))
        except NofxError as error:
            raise StoreUnavailable(
                f"what was pruned is in no list any more, but its files stay: {error.message}"
            ) from error

    async def finish(self, log_id: int, folder: str) -> None:
        """Delete the files that there are of all removed records of a log.  Raises as `delete`, once all were tried."""
        after, why = "", None
        while ids := (await self._db.scan(removed.after, log_id, after, AT_ONCE)).value:
            tried = await self._try(log_id, folder, ids)
            after, why = ids[-1], why or tried.why
        if why is not None:
            raise why

    async def forget(self, before: datetime) -> int:
        """Forget what was removed before a time, once it has no file any more; how many records that were."""
        done = 0
        for log_id, folder in (await self._db.scan(removed.with_old, before)).value:
            after, why = "", None
            try:
                while ids := (await self._db.scan(removed.old, log_id, before, after, AT_ONCE)).value:
                    tried = await self._try(log_id, folder, ids)
                    await self._db.write(removed.forget_old, log_id, tried.gone, before)
                    done, after, why = done + len(tried.gone), ids[-1], why or tried.why
            except NofxError as error:
                why = error
            if why is not None:
                logger.warning("pruned_files_stay", folder=folder, error=why.message)
        return done

    async def _delete(self, log_id: int, folder: str, ids: Sequence[str]) -> int:
        with await asyncio.to_thread(deletions.begin, self._folders.root):
            left = (await self._db.scan(removed.among, log_id, ids)).value
            await asyncio.to_thread(self._folders.remove, folder, sorted(left))
        return len(left)

    async def _try(self, log_id: int, folder: str, ids: Sequence[str]) -> _Tried:
        """Delete the files that there are of these records.  Raises StoreUnavailable if nobody can tell which."""
        if not (there := await asyncio.to_thread(self._folders.there, folder, ids)):
            return _Tried(ids)
        try:
            count = await self.delete(log_id, folder, there)
        except StoreUnavailable as error:
            stay = await asyncio.to_thread(self._folders.there, folder, there)
            return _Tried([id for id in ids if id not in stay], error)
        logger.info("pruned_files_deleted", folder=folder, count=count)
        return _Tried(ids)
