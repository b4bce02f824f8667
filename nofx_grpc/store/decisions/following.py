"""The index follows the folders: names that came are read into it, those that went are taken out.

A look at a folder's time of change tells whether names came or went since the last look; what this process adds itself
it need not look for.  However large a folder is, only a part of its names is in memory at one time: both they and the
index are gone through in the same order.
"""

import asyncio
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from threading import Lock
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from nofx_grpc.decisions.names import SUFFIX, cycle_of, id_of_file
from nofx_grpc.errors import StoreUnavailable
from nofx_grpc.store.decisions import bodies, entries, index, logs
from nofx_grpc.store.decisions.entries import AFTER_ALL
from nofx_grpc.store.decisions.folders import Folders, Stamp
from nofx_grpc.store.decisions.listing import sorted_ids
from nofx_grpc.store.decisions.reading import read_entries, shown_name, stamp_of
from nofx_grpc.store.decisions.settling import settle_all
from nofx_grpc.store.engine import Database

AT_ONCE: Final = 500  # files that are read, and entries that are written, at one time
# After this long a folder is looked through even if its time says that nothing came: a file that came at the very
# moment of one of our own is not to be seen in it.
_TRUST_SECONDS: Final = 600.0
_RETRY_SECONDS: Final = 1.0  # for files that cannot be read for now: a disk that fails takes its time at each try
# A large folder that changes all the time is not looked through all the time: of 10,000 names about once a second.
_SMALL: Final = 1000
_REST_SECONDS_PER_NAME: Final = 0.0001
# Files that are no records, and may be mended; more of them are seen when others come or go.
_MOST_WATCHED: Final = 1000

Tell = Callable[[int], None]


class Seen(NamedTuple):
    """A folder as it was when it was looked through."""

    mtime: int
    unreadable: dict[str, Stamp]
    until: float
    rests_until: float  # be it changed or not


class Following:
    """Brings the index in step with folders."""

    def __init__(self, db: Database, folders: Folders) -> None:
        self._db, self._folders = db, folders
        self._seen: dict[str, Seen] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._changing: set[str] = set()  # folders that this process is changing right now
        self._moves: dict[str, dict[int, int]] = {}  # of folders that are looked through: their times, changed by us
        self._noting = Lock()  # of what threads note here; nobody waits for a disk with it

    async def refresh(self, trader_id: str, folder: str) -> bool:
        """Look through a folder if it may have changed; whether it may have."""
        if not await asyncio.to_thread(self.has_changed, folder):
            return False
        async with self._locks.setdefault(trader_id, asyncio.Lock()):
            if await asyncio.to_thread(self.has_changed, folder):
                await self._look_through(trader_id, folder)
        return True

    async def reindex(self, trader_id: str, folder: str, tell: Tell) -> None:
        """Look through a folder, and read files anew whose content has changed too; `tell` is told of files done.

        Raises StoreUnavailable if the directory of all of them is missing.
        """
        async with self._locks.setdefault(trader_id, asyncio.Lock()):
            await self._look_through(trader_id, folder, tell, thorough=True)

    async def reread(self, trader_id: str, folder: str, log_id: int, ids: Sequence[str]) -> None:
        """Read anew the files of records that are in the index, and are none any more."""
        async with self._locks.setdefault(trader_id, asyncio.Lock()):
            look = _Look(self._db, self._folders, trader_id, folder, log_id)
            await look.at_damaged(log_id, ids)
            if not look.is_whole:
                self._seen.pop(folder, None)
            elif (seen := self._seen.get(folder)) is not None:
                self._seen[folder] = seen._replace(unreadable=seen.unreadable | look.unreadable)
        await settle_all(self._db, trader_id)

    @contextmanager
    def own_change(self, folder: str) -> Iterator[None]:
        """What is done to the folder in this block need not be looked for; not on the event loop."""
        before = self._mtime(folder)
        self._changing.add(folder)
        try:
            yield
        finally:
            after = self._mtime(folder)
            if before is not None and after is not None:
                self._note_move(folder, before, after)
            self._changing.discard(folder)

    def _note_move(self, folder: str, before: int, after: int) -> None:
        with self._noting:
            if (moves := self._moves.get(folder)) is not None:
                moves[before] = after
            if (seen := self._seen.get(folder)) is not None and seen.mtime == before:
                self._seen[folder] = seen._replace(mtime=after)

    def has_changed(self, folder: str) -> bool:
        """Whether a folder is to be looked through; not on the event loop."""
        (seen, mtime), now = self._state(folder), time.monotonic()
        if seen is None or mtime is None or now > seen.until:
            return True
        if mtime != seen.mtime:
            return now >= seen.rests_until
        return any(
            stamp_of(self._folders, folder, name, of_any_change=True) != stamp
            for name, stamp in seen.unreadable.items()
        )

    def _state(self, folder: str) -> tuple[Seen | None, int | None]:
        """A folder as it was seen, and its time now; what this process is changing is as good as done."""
        while True:
            seen, mtime = self._seen.get(folder), self._mtime(folder)
            if seen is not None and folder in self._changing:
                return seen, seen.mtime
            if seen is self._seen.get(folder):
                return seen, mtime

    async def _look_through(
        self, trader_id: str, folder: str, tell: Tell = lambda files: None, *, thorough: bool = False
    ) -> None:
        """Bring the index in step with a folder.

        Raises StoreUnavailable if the directory of all folders is missing: a disk that is not there has lost nothing.
        """
        self._moves[folder] = {}
        mtime = await asyncio.to_thread(self._mtime, folder)
        if mtime is None and not self._folders.is_there():
            raise StoreUnavailable("the directory of the decision logs is missing")
        log = (await self._db.read(logs.find, trader_id)).value.log
        log_id = None if log is None else log.id
        look = _Look(self._db, self._folders, trader_id, folder, log_id, tell, thorough=thorough)
        look.trusts = not thorough and folder in self._seen
        await look.at_records()
        await look.at_others()
        if log_id is not None:
            await look.at_what_was_unreadable(log_id)
        await settle_all(self._db, trader_id)
        now = time.monotonic()
        rest = look.count * _REST_SECONDS_PER_NAME if look.count > _SMALL else 0.0
        until = now + (_TRUST_SECONDS if look.is_whole else max(rest, _RETRY_SECONDS))
        with self._noting:
            moves = self._moves.pop(folder)
            while mtime in moves:
                mtime = moves.pop(mtime)
            self._seen[folder] = Seen(mtime or 0, look.unreadable, until, now + rest)

    def _mtime(self, folder: str) -> int | None:
        try:
            return self._folders.mtime(folder)
        except OSError:
            return None


class _Look:
    """One look through one folder, whose log has this id if it has one yet."""

    def __init__(
        self,
        db: Database,
        folders: Folders,
        trader_id: str,
        folder: str,
        log_id: int | None,
        tell: Tell = lambda files: None,
        *,
        thorough: bool = False,
    ) -> None:
        self._db, self._folders, self._tell, self._thorough = db, folders, tell, thorough
        self._trader_id, self._folder, self._log_id = trader_id, folder, log_id
        self.count = 0  # of files that can hold records
        # Whether files that were no records, and are the same, are none still: another user may be this process now.
        self.trusts = True
        self.is_whole = True  # but for files that could not be read for now
        self.unreadable: dict[str, Stamp] = {}  # the first of the files that are no records
        self._respelt: set[str] = set()  # names that the database cannot hold as they are, as it has them

    async def at_records(self) -> None:
        """Compare the files that can hold records with those that the index has, in the order of their ids."""
        after = ""
        ids = sorted_ids(self._names())
        while True:
            there = await asyncio.to_thread(lambda: list(islice(ids, AT_ONCE)))
            upto = there[-1] if len(there) == AT_ONCE else AFTER_ALL.id
            while after != upto:
                known = await self._known(after, upto)
                after = max(known) if len(known) == AT_ONCE else upto
                here = bisect_right(there, after)
                await self._compare(there[:here], known)
                there = there[here:]
            if upto == AFTER_ALL.id:
                return

    async def at_others(self) -> None:
        """Note the files whose names are none of a record."""
        others = (name for name in self._names() if id_of_file(name) is None)
        while names := await asyncio.to_thread(lambda: list(islice(others, AT_ONCE))):
            self._respelt.update(shown for name in names if (shown := shown_name(name)) != name)
            await self._read(names)
            self._tell(len(names))

    async def at_what_was_unreadable(self, log_id: int) -> None:
        """Forget files that were no records, and are gone."""
        after = ""
        while files := (await self._db.scan(index.unreadable_after, log_id, after, AT_ONCE)).value:
            names = [file.name for file in files if file.name not in self._respelt]
            if gone := await asyncio.to_thread(self._missing, names):
                await self._db.write(index.forget_unreadable, log_id, gone)
            after = files[-1].name

    async def at_damaged(self, log_id: int, ids: Sequence[str]) -> None:
        """Read files anew that are no records any more; a record that waits in the database for its file stays."""
        waiting = (await self._db.scan(bodies.among, log_id, ids)).value
        ids = [id for id in ids if id not in waiting]
        await self._db.write(index.remove, log_id, ids)
        await self._read([id + SUFFIX for id in ids])

    def _names(self) -> Iterator[str]:
        """The names in the folder; none if it is gone."""
        with suppress(FileNotFoundError):
            yield from self._folders.names(self._folder)

    async def _known(self, after: str, upto: str) -> dict[str, Stamp]:
        """Records of the index from after one id up to another, at most so many as are dealt with at one time."""
        if self._log_id is None:
            return {}
        rows = (await self._db.scan(entries.stamps, self._log_id, after, upto, AT_ONCE)).value
        return {id: Stamp(size, mtime_ns) for id, size, mtime_ns in rows}

    async def _compare(self, there: list[str], known: dict[str, Stamp]) -> None:
        """Bring the index in step with a part of the folder."""
        here = set(there)
        gone = await self._gone([id for id in known if id not in here])
        changed = await self._changed(there, known) if self._thorough else set()
        if self._log_id is not None and (gone or changed):
            await self._db.write(index.remove, self._log_id, [*gone, *changed])
        came = [id + SUFFIX for id in there if id not in known or id in changed]
        await self._read(sorted(came, key=_by_time))
        self.count += len(there)
        self._tell(len(there))

    async def _gone(self, missing: list[str]) -> list[str]:
        """The records that are gone for good, of those that had no file when the names were read: one whose body waits
        in the database has none yet, or got it meanwhile.
        """
        if self._log_id is None or not missing:
            return []
        waiting = (await self._db.scan(bodies.among, self._log_id, missing)).value
        names = [id + SUFFIX for id in missing if id not in waiting]
        return [name.removesuffix(SUFFIX) for name in await asyncio.to_thread(self._missing, names)]

    def _missing(self, names: Sequence[str]) -> list[str]:
        """Those of these names that are not in the folder."""
        return [name for name in names if not self._folders.has(self._folder, name)]

    async def _changed(self, there: list[str], known: dict[str, Stamp]) -> set[str]:
        """The records of which the index has something else than their files.

        Where only the file's time is another, it is noted: of one that was written here the index has none yet.
        """
        ids = await asyncio.to_thread(self._restamped, there, known)
        if self._log_id is None or not ids:
            return set()
        was = {entry.id: entry for entry in (await self._db.scan(entries.some, self._log_id, ids)).value}
        read = await asyncio.to_thread(read_entries, self._folders, self._folder, [id + SUFFIX for id in ids])
        same = [entry for entry in read.new if entry.id in was and entry.says_the_same(was[entry.id])]
        if same:
            await self._db.write(entries.note_times, self._log_id, same)
        # What has the name of a record that waits in the database is not that record.
        waiting = (await self._db.scan(bodies.among, self._log_id, ids)).value
        left = [entry.id for entry in same] + [name.removesuffix(SUFFIX) for name in read.unread]
        return set(ids) - set(left) - waiting

    def _restamped(self, there: list[str], known: dict[str, Stamp]) -> list[str]:
        """The records whose files are not as old, or as large, as they were."""
        stamps = {id: stamp_of(self._folders, self._folder, id + SUFFIX) for id in there if id in known}
        return [id for id, now in stamps.items() if now is not None and now != known[id]]

    async def _read(self, names: Sequence[str]) -> None:
        """Read files into the index, but those that were no records and are what they were."""
        if not names:
            return
        known: dict[str, Stamp] = {}
        if self._log_id is not None and self.trusts:
            shown = [shown_name(name) for name in names]
            known = (await self._db.scan(index.unreadable_among, self._log_id, shown)).value
        read = await asyncio.to_thread(read_entries, self._folders, self._folder, names, known)
        new, wrong, same, unread = read
        self.is_whole = self.is_whole and not unread
        if new or wrong:
            await self._db.write(index.add, self._trader_id, self._folder, new, wrong)
        for name, stamp in [*same.items(), *((file.name, Stamp(file.size_bytes, file.mtime_ns)) for file in wrong)]:
            if len(self.unreadable) < _MOST_WATCHED:
                self.unreadable[name] = stamp


def _by_time(name: str) -> tuple[str, int, str]:
    """Where a file stands by its name: near enough to where it stands by its time."""
    return name[: len("decision_YYYYMMDD_HHMMSS")], cycle_of(name.removesuffix(SUFFIX)), name
