"""The home of files: they are the truth, the index follows them.

An append is committed with a copy of its body, which waits in the database until the file has its name for good: so
that name need not be waited for, and whoever is killed, or loses power, at any moment loses no record.  The file itself
appears whole, for its content is durable before it gets its name.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

import structlog

from nofx_grpc.decisions.names import SUFFIX, id_of_file, plain_folder, spelt_folder, trader_of_folder
from nofx_grpc.decisions.records import NotARecord
from nofx_grpc.errors import NofxError, StoreUnavailable
from nofx_grpc.store.decisions import bodies, deletions, directory, logs, removed
from nofx_grpc.store.decisions.entries import Entry
from nofx_grpc.store.decisions.folders import Folders
from nofx_grpc.store.decisions.following import Following
from nofx_grpc.store.decisions.home import Staged
from nofx_grpc.store.decisions.logs import Log, Owned
from nofx_grpc.store.decisions.naming import Naming
from nofx_grpc.store.decisions.publishing import Nameless, Publishing
from nofx_grpc.store.decisions.removing import Removing
from nofx_grpc.store.engine import Database

_AT_START: Final = 1000  # records; as many as a process that was killed may have left, at most, and no more
_STALE: Final = timedelta(hours=1)  # no append takes so long from its file to its name

logger = structlog.get_logger(__name__)


class FileHome:
    """Keeps each record in a file of its own."""

    in_files = True

    def __init__(self, db: Database, folders: Folders, clock: Callable[[], datetime]) -> None:
        self._db, self.folders, self._clock = db, folders, clock
        self._naming = Naming(db, folders)
        self._following = Following(db, folders)
        self._removing = Removing(db, folders)
        self.publishing = Publishing(db, folders, self._following)

    async def open(self) -> None:
        await directory.check(self._db, self.folders)
        try:
            await self._naming.see_to_staged()
            await self._naming.see_to_all(_AT_START)
        except (NofxError, OSError) as error:  # a directory that is read-only is served
            logger.warning("staged_files_not_named", error=str(error))

    def is_current(self, log: Log) -> bool:
        return not self._following.has_changed(log.folder)

    async def refresh(self, trader_id: str, owned: Owned) -> Owned:
        folder = owned.log.folder if owned.log else await self.found(trader_id)
        if folder is None:
            return owned
        changed = await self._following.refresh(trader_id, folder)
        if owned.log is not None and not changed:
            return owned
        return (await self._db.read(logs.find, trader_id)).value  # which others may have made since it was looked for

    async def found(self, trader_id: str) -> str | None:
        def find() -> str | None:
            found = self.folders.find(trader_id)
            if found is None and self.folders.mark and not self.folders.is_there():
                raise StoreUnavailable("the directory of the decision logs is missing")
            return found

        return await asyncio.to_thread(find)

    async def folder(self, trader_id: str, owned: Owned) -> str:
        if owned.log is not None:
            return owned.log.folder
        if found := await self.found(trader_id):
            return found
        free = (await self._db.read(logs.new_folder, trader_id)).value
        # What has its place may be a file, or a symbolic link.
        taken = free == plain_folder(trader_id) and await asyncio.to_thread(self.folders.is_taken, free)
        return spelt_folder(trader_id) if taken else free

    def stage(self, body: bytes) -> Staged:
        return Staged(bodies.compress(body, bodies.AS_IT_IS), self.folders.stage(body))

    async def publish(self, folder: str, id: str, staged: Staged) -> None:
        await self.publishing.put(Nameless(folder, id, staged.token))

    async def discard(self, staged: Staged) -> None:
        with suppress(NofxError):  # what stays is deleted after an hour
            await asyncio.to_thread(self.folders.discard, staged.token)

    async def settle(self) -> None:
        await self.publishing.settle()

    async def load(self, log: Log, wanted: Sequence[Entry]) -> list[bytes | None]:
        found, other = await asyncio.to_thread(self._read_all, log.folder, wanted)
        if other:
            ids = [entry.id for entry in other]
            waiting = (await self._db.scan(bodies.some, log.id, ids)).value
            found |= {id: bodies.decompress(kept) for id, kept in waiting.items()}
            # A file that got its name after it was looked for has no copy any more.
            named = [entry for entry in other if entry.id not in found]
            found |= (await asyncio.to_thread(self._read_all, log.folder, named))[0]
        return [found.get(entry.id) for entry in wanted]

    async def reread(self, log: Log, ids: Sequence[str]) -> None:
        await self._following.reread(log.trader_id, log.folder, log.id, ids)

    async def remove(self, log: Log, ids: Sequence[str]) -> None:
        await self._removing.delete(log.id, log.folder, ids)

    async def finish_removing(self, log: Log) -> None:
        await self._removing.finish(log.id, log.folder)

    async def let_back(self, trader_id: str, names: Sequence[str]) -> None:
        """Have the records of files that are about to be written come back, be they pruned just now.

        Their old files are gone then, or stay: nobody is about to delete them.
        """
        if (log := (await self._db.read(logs.find, trader_id)).value.log) is not None:
            ids = [id for name in names if (id := id_of_file(name)) is not None]
            if gone := (await self._db.scan(removed.among, log.id, ids)).value:
                await self._db.write(removed.forget, log.id, list(gone))
            await asyncio.to_thread(deletions.wait, self.folders.root)

    async def take(self) -> None:
        """Make the directory the one that the database knows, whichever it was before.  Raises StartError."""
        await directory.take(self._db, self.folders)

    async def reindex(self, folder: str, tell: Callable[[int], None]) -> bool:
        """Bring the index in step with a folder, files whose content has changed too; `tell` is told of files done.
        Whether it is the folder of a trader, for one has its records in another folder if its first choice was taken.

        Raises StoreUnavailable if the directory of all of them is missing, or the folder cannot be entered.
        """
        trader_id = trader_of_folder(folder)
        if trader_id is None or folder != await self.place(trader_id):
            return False
        await self._following.reindex(trader_id, folder, tell)
        return True

    async def place(self, trader_id: str) -> str:
        """The folder that a trader has, or will have."""
        return await self.folder(trader_id, (await self._db.read(logs.find, trader_id)).value)

    async def tidy(self) -> int:
        """Give files to the records whose bodies still wait in the database, be it that the database was their home;
        delete what was staged and never committed, and what is left of the files of pruned records.
        """
        done = await self._naming.see_to_all()
        done += await self._removing.forget(self._clock() - _STALE)
        stale = await asyncio.to_thread(self.folders.staged_before, _STALE.total_seconds())
        for token in stale:
            try:
                await asyncio.to_thread(self.folders.discard, token)
            except NofxError as error:
                logger.warning("staged_file_stays", name=token, error=error.message)
            else:
                done += 1
        return done

    def _read_all(self, folder: str, wanted: Sequence[Entry]) -> tuple[dict[str, bytes], list[Entry]]:
        """The bodies of files by id; and the entries that have no file, or one of another size than they say, which
        may be another's that has taken the name.
        """
        found: dict[str, bytes] = {}
        other: list[Entry] = []
        for entry in wanted:
            try:
                found[entry.id] = self.folders.read(folder, entry.id + SUFFIX)[1]
            except FileNotFoundError:
                other.append(entry)
                continue
            except NotARecord:
                found[entry.id] = b""  # which is no record either
            if len(found[entry.id]) != entry.size_bytes:
                other.append(entry)
        return found, other
