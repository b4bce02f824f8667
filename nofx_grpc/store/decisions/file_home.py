"""The home of files: they are the truth, the index follows them.

A look at a folder's time of change tells whether names came or went since the last look; what this process adds itself
it need not look for.  The file of a committed record gets its name right after the commit.  Where a process was killed
in between, whoever reads the record next does it, by the token that the entry has.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from sqlalchemy import Connection

from nofx_grpc.decisions.names import SUFFIX, cycle_of, id_of_file, plain_folder, spelt_folder, trader_of_folder
from nofx_grpc.decisions.records import NotARecord, facts, parse
from nofx_grpc.errors import StoreUnavailable
from nofx_grpc.store.decisions import entries, index, logs
from nofx_grpc.store.decisions.entries import Entry, entry_of
from nofx_grpc.store.decisions.folders import Folders, Stamp
from nofx_grpc.store.decisions.home import Staged
from nofx_grpc.store.decisions.index import Unreadable
from nofx_grpc.store.decisions.logs import Log, Owned
from nofx_grpc.store.engine import Database

AT_ONCE: Final = 500  # files that are read, and entries that are written, at one time
# After this long a folder is looked through even if its time says that nothing came: a file that came at the very
# moment of one of our own is not to be seen in it.
_TRUST_SECONDS: Final = 600.0
_STALE_SECONDS: Final = 3600.0  # no append takes so long from its file to its commit


class Seen(NamedTuple):
    """A folder as it was when it was looked through."""

    mtime: int
    unreadable: dict[str, Stamp]
    until: float


class Difference(NamedTuple):
    """What has become of a folder: names that came, ids that went, files that were no records and went."""

    came: list[str]
    went: list[str]
    unreadable_went: list[str]


class FileHome:
    """Keeps each record in a file of its own."""

    def __init__(self, db: Database, folders: Folders) -> None:
        self._db, self.folders = db, folders
        self._seen: dict[str, Seen] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def refresh(self, trader_id: str, owned: Owned) -> Owned:
        folder = owned.log.folder if owned.log else await self.found(trader_id)
        if folder is None or not await asyncio.to_thread(self._has_changed, folder):
            return owned
        async with self._locks.setdefault(trader_id, asyncio.Lock()):
            if await asyncio.to_thread(self._has_changed, folder):
                await self._look_through(trader_id, folder)
        return (await self._db.read(logs.find, trader_id)).value

    async def found(self, trader_id: str) -> str | None:
        return await asyncio.to_thread(self.folders.find, trader_id)

    async def folder(self, trader_id: str, owned: Owned) -> str:
        if owned.log is not None:
            return owned.log.folder
        if found := await self.found(trader_id):
            return found
        free = (await self._db.read(logs.new_folder, trader_id)).value
        # What has its place may be a file, or a symbolic link.
        taken = free == plain_folder(trader_id) and await asyncio.to_thread(self.folders.is_taken, free)
        return spelt_folder(trader_id) if taken else free

    async def stage(self, body: bytes) -> Staged:
        return Staged(await asyncio.to_thread(self.folders.stage, body), None)

    async def publish(self, folder: str, id: str, staged: Staged) -> None:
        await asyncio.to_thread(self._publish, folder, id, staged.token)

    async def discard(self, staged: Staged) -> None:
        await asyncio.to_thread(self.folders.discard, staged.token)

    async def load(self, log: Log, wanted: Sequence[Entry]) -> list[bytes | None]:
        return await asyncio.to_thread(lambda: [self._read(log.folder, entry) for entry in wanted])

    async def remove(self, log: Log, ids: Sequence[str]) -> None:
        await asyncio.to_thread(self.folders.remove, log.folder, ids)

    async def reindex(self, folder: str, tell: Callable[[int], None]) -> None:
        """Bring the index in step with a folder, files whose content has changed too; `tell` is told of files done.

        Raises StoreUnavailable if the directory of all of them is missing.
        """
        trader_id = trader_of_folder(folder)
        if trader_id is None:
            return
        async with self._locks.setdefault(trader_id, asyncio.Lock()):
            stamps, unreadable, log_id = (await self._db.scan(_stamps, trader_id)).value
            if log_id is not None:
                changed = await asyncio.to_thread(self._changed, folder, stamps)
                await self._forget(log_id, Difference([], changed, unreadable))
            await self._look_through(trader_id, folder, tell)

    def _changed(self, folder: str, stamps: dict[str, Stamp]) -> list[str]:
        """The records whose files are not what they were; a file that was written here has no time in the index."""
        changed = []
        for id, stamp in stamps.items():
            now = self._stamp(folder, id + SUFFIX)
            if now is not None and now != (stamp if stamp.mtime_ns else stamp._replace(mtime_ns=now.mtime_ns)):
                changed.append(id)
        return changed

    async def tidy(self) -> int:
        left = await asyncio.to_thread(self.folders.staged_before, _STALE_SECONDS)
        for chunk in _chunks(left, AT_ONCE):
            places = (await self._db.scan(entries.staged_as, chunk)).value
            for token in chunk:
                await asyncio.to_thread(self._see_to, token, places.get(token))
        return len(left)

    def _see_to(self, token: str, place: tuple[str, str] | None) -> None:
        """Name a staged file whose record was committed; delete any other."""
        if place is None:
            self.folders.discard(token)
        else:
            folder, id = place
            self.folders.publish(folder, token, id + SUFFIX)

    def _has_changed(self, folder: str) -> bool:
        """Whether the folder is to be looked through."""
        seen = self._seen.get(folder)
        try:
            if seen is None or seen.mtime != self.folders.mtime(folder) or time.monotonic() > seen.until:
                return True
            return any(self.folders.stamp(folder, name) != stamp for name, stamp in seen.unreadable.items())
        except OSError:  # gone, in whole or in part
            return True

    async def _look_through(
        self, trader_id: str, folder: str, tell: Callable[[int], None] = lambda files: None
    ) -> None:
        """Bring the index in step with a folder.

        Raises StoreUnavailable if the directory of all folders is missing: a disk that is not there has lost nothing.
        """
        known, unreadable, log_id = (await self._db.scan(_known, trader_id)).value
        try:
            mtime, names = await asyncio.to_thread(self.folders.names, folder)
        except FileNotFoundError:
            if not self.folders.root.is_dir():
                raise StoreUnavailable("the directory of the decision logs is missing") from None
            mtime, names = 0, []
        if log_id is None and not names:
            return
        difference = await asyncio.to_thread(self._compare, folder, names, known, unreadable)
        found: dict[str, Stamp] = {name: stamp for name, stamp in unreadable.items() if name in set(names)}
        tell(len(names) - len(difference.came))
        for chunk in _chunks(difference.came, AT_ONCE):
            new, wrong = await asyncio.to_thread(self._read_all, folder, chunk)
            await self._db.write(index.add, trader_id, folder, new, wrong)
            tell(len(chunk))
            for entry in new:
                found.pop(entry.id + SUFFIX, None)
            found |= {file.name: Stamp(file.size_bytes, file.mtime_ns) for file in wrong}
        if log_id is not None:
            await self._forget(log_id, difference)
        self._seen[folder] = Seen(mtime, found, time.monotonic() + _TRUST_SECONDS)

    async def _forget(self, log_id: int, difference: Difference) -> None:
        for chunk in _chunks(difference.went, AT_ONCE):
            await self._db.write(index.remove, log_id, chunk)
        for chunk in _chunks(difference.unreadable_went, AT_ONCE):
            await self._db.write(index.forget_unreadable, log_id, chunk)

    def _compare(
        self, folder: str, names: list[str], known: dict[str, str], unreadable: dict[str, Stamp]
    ) -> Difference:
        there = set(names)
        came = [
            name
            for name in names
            if (id_of_file(name) or "") not in known
            and (name not in unreadable or self._stamp(folder, name) != unreadable[name])
        ]
        went = [id for id, token in known.items() if id + SUFFIX not in there and not self._settle(folder, id, token)]
        gone = [name for name in unreadable if name not in there]
        return Difference(sorted(came, key=_by_time), went, gone)

    def _settle(self, folder: str, id: str, token: str) -> bool:
        """Whether the record has its file after all, named at last where it was only staged."""
        if not token:
            return False
        try:
            self.folders.publish(folder, token, id + SUFFIX)
        except Exception:  # noqa: BLE001  # whatever it is, there is no file to be had
            return self.folders.has(folder, id + SUFFIX)
        return True

    def _stamp(self, folder: str, name: str) -> Stamp | None:
        try:
            return self.folders.stamp(folder, name)
        except OSError:
            return None

    def _publish(self, folder: str, id: str, token: str) -> None:
        seen = self._seen.get(folder)
        was_up_to_date = seen is not None and self._mtime(folder) == seen.mtime
        self.folders.publish(folder, token, id + SUFFIX)
        if was_up_to_date and seen is not None:
            self._seen[folder] = seen._replace(mtime=self.folders.mtime(folder))

    def _mtime(self, folder: str) -> int | None:
        try:
            return self.folders.mtime(folder)
        except OSError:
            return None

    def _read(self, folder: str, entry: Entry) -> bytes | None:
        try:
            return self.folders.read(folder, entry.id + SUFFIX)[1]
        except FileNotFoundError:
            if not self._settle(folder, entry.id, entry.staged):
                return None
            return self._read(folder, entry._replace(staged=""))
        except NotARecord:
            return None

    def _read_all(self, folder: str, names: Sequence[str]) -> tuple[list[Entry], list[Unreadable]]:
        """The entries of files, and those that are no records."""
        new: list[Entry] = []
        wrong: list[Unreadable] = []
        for name in names:
            try:
                read = read_entry(self.folders, folder, name)
            except FileNotFoundError:
                continue  # gone again
            if isinstance(read, Entry):
                new.append(read)
            else:
                wrong.append(read)
        return new, wrong


def read_entry(folders: Folders, folder: str, name: str) -> Entry | Unreadable:
    """The entry of a file, or why it is no record.  Raises FileNotFoundError."""
    stamp = folders.stamp(folder, name)
    shown = name.encode("utf-8", "backslashreplace").decode()
    try:
        id = id_of_file(name)
        if id is None:
            raise NotARecord("its name is none of a record, which ends in .json")
        stamp, data = folders.read(folder, name)
        return entry_of(id, facts(parse(data)), size=stamp.size, mtime_ns=stamp.mtime_ns)
    except NotARecord as error:
        return Unreadable(shown.replace("\0", ""), stamp.size, stamp.mtime_ns, str(error))


def _known(connection: Connection, trader_id: str) -> tuple[dict[str, str], dict[str, Stamp], int | None]:
    """The records in the index with their tokens, the files that are none, and the id of the log."""
    log = logs.find(connection, trader_id).log
    if log is None:
        return {}, {}, None
    _, files = index.unreadable(connection, log.id, limit=1_000_000)
    known = entries.tokens(connection, log.id)
    return known, {file.name: Stamp(file.size_bytes, file.mtime_ns) for file in files}, log.id


def _stamps(connection: Connection, trader_id: str) -> tuple[dict[str, Stamp], list[str], int | None]:
    """The records in the index with the stamps of their files, the files that are none, and the id of the log."""
    log = logs.find(connection, trader_id).log
    if log is None:
        return {}, [], None
    _, files = index.unreadable(connection, log.id, limit=1_000_000)
    stamps = {id: Stamp(size, mtime) for id, size, mtime in entries.stamps(connection, log.id)}
    return stamps, [file.name for file in files], log.id


def _by_time(name: str) -> tuple[str, int, str]:
    """Where a file stands by its name: near enough to where it stands by its time."""
    return name[: len("decision_YYYYMMDD_HHMMSS")], cycle_of(name.removesuffix(SUFFIX)), name


def _chunks(items: list[str], size: int) -> Iterator[list[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))
