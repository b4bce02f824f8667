"""One look through a folder: names that came are read into the index, those that went are taken out.

However large a folder is, only a part of its names is in memory at one time: both they and the index are gone through
in the same order.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final

from nofx_grpc.decisions.names import SUFFIX, cycle_of, id_of_file
from nofx_grpc.store.decisions import bodies, entries, index
from nofx_grpc.store.decisions.entries import AFTER_ALL
from nofx_grpc.store.decisions.folders import Folders, Stamp
from nofx_grpc.store.decisions.listing import sorted_ids
from nofx_grpc.store.decisions.reading import read_entries, shown_name, stamp_of
from nofx_grpc.store.engine import Database

AT_ONCE: Final = 500  # files that are read, and entries that are written, at one time
# Files that are no records, and may be mended; more of them are seen when others come or go.
_MOST_WATCHED: Final = 1000

Tell = Callable[[int], None]


class Look:
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
