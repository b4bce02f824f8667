"""Files for records whose bodies wait in the database: of a process that was killed, or because it was their home."""

import asyncio
from typing import Final

import structlog

from nofx_grpc.decisions.names import SUFFIX, record_id
from nofx_grpc.decisions.records import NotARecord, facts, parse
from nofx_grpc.errors import NofxError, StoreUnavailable
from nofx_grpc.store.decisions import bodies, entries
from nofx_grpc.store.decisions.bodies import Waiting
from nofx_grpc.store.decisions.entries import entry_of
from nofx_grpc.store.decisions.folders import PENDING, Folders
from nofx_grpc.store.engine import Database

_AT_ONCE: Final = 200  # bodies that are seen to at one time, though not held

logger = structlog.get_logger(__name__)


class Naming:
    """Makes files of bodies.  To do it while whoever appended does it too does no harm: both files are the same."""

    def __init__(self, db: Database, folders: Folders) -> None:
        self._db, self._folders = db, folders

    async def see_to_all(self, at_most: int | None = None) -> int:
        """Give files to records whose bodies wait, in the order of their ids, or to about so many; how many got one."""
        done, seen, after = 0, 0, (0, "")
        while at_most is None or seen < at_most:
            waiting = (await self._db.scan(bodies.waiting, after, _AT_ONCE)).value
            if not waiting:
                break
            for record in waiting:
                done += await self._see_to(record)
            seen, after = seen + len(waiting), (waiting[-1].log_id, waiting[-1].id)
        return done

    async def _see_to(self, record: Waiting) -> bool:
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

    async def see_to_staged(self) -> None:
        """Give files to the records that a server before schema 0009 had committed when it died: of those the body is
        in a staged file, and nowhere else.
        """
        for token in await asyncio.to_thread(self._folders.staged_before, 0.0):
            try:
                body = (await asyncio.to_thread(self._folders.read, PENDING, token))[1]
                known = facts(parse(body))
            except (FileNotFoundError, NotARecord, NofxError):
                continue
            entry = entry_of(record_id(known.time_ns, known.cycle_number), known, size=len(body))
            for folder, kept in (await self._db.scan(entries.without_body, entry.id)).value:
                name = entry.id + SUFFIX
                if kept.says_the_same(entry) and not await asyncio.to_thread(self._folders.has, folder, name):
                    await asyncio.to_thread(self._folders.put, folder, name, body)

    def _make_file(self, record: Waiting, kept: bytes) -> None:
        """Give a record its file.  Raises StoreUnavailable if something else has its name, which stays."""
        name, body = record.id + SUFFIX, bodies.decompress(kept)
        if not self._folders.has(record.folder, name):
            self._folders.put(record.folder, name, body)
        try:
            there = self._folders.read(record.folder, name)[1]
        except (FileNotFoundError, NotARecord) as error:
            raise StoreUnavailable(f"what has its name is no record: {error}") from None
        if there != body:
            raise StoreUnavailable("another file has its name")
        self._folders.settle(record.folder)
