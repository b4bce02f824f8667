"""The index follows the folders: names that came are read into it, those that went are taken out.

A folder's time of change tells whether names came or went since the last look; what this process adds itself it need
not look for.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from nofx_grpc.errors import StoreUnavailable
from nofx_grpc.store.decisions import logs
from nofx_grpc.store.decisions.folders import Folders, Stamp
from nofx_grpc.store.decisions.looking import Look, Tell
from nofx_grpc.store.decisions.reading import stamp_of
from nofx_grpc.store.decisions.settling import settle_all
from nofx_grpc.store.engine import Database

# After this long a folder is looked through even if its time says that nothing came: a file that came at the very
# moment of one of our own is not to be seen in it.
_TRUST_SECONDS: Final = 600.0
_RETRY_SECONDS: Final = 1.0  # for files that cannot be read for now: a disk that fails takes its time at each try
# A large folder that changes all the time is not looked through all the time: of 10,000 names about once a second.
_SMALL: Final = 1000
_REST_SECONDS_PER_NAME: Final = 0.0001


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
            look = Look(self._db, self._folders, trader_id, folder, log_id)
            await look.at_damaged(log_id, ids)
            if not look.is_whole:
                self._seen.pop(folder, None)
            with self._noting:
                if look.is_whole and (seen := self._seen.get(folder)) is not None:
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
        with self._moves_of(folder) as moves:
            mtime = await asyncio.to_thread(self._mtime, folder)
            if mtime is None and not self._folders.is_there():
                raise StoreUnavailable("the directory of the decision logs is missing")
            log = (await self._db.read(logs.find, trader_id)).value.log
            log_id = None if log is None else log.id
            look = Look(self._db, self._folders, trader_id, folder, log_id, tell, thorough=thorough)
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
                while mtime in moves:
                    mtime = moves.pop(mtime)
                self._seen[folder] = Seen(mtime or 0, look.unreadable, until, now + rest)

    @contextmanager
    def _moves_of(self, folder: str) -> Iterator[dict[int, int]]:
        """How changes of our own move the time of a folder in this block."""
        moves = self._moves[folder] = {}
        try:
            yield moves
        finally:
            del self._moves[folder]

    def _mtime(self, folder: str) -> int | None:
        try:
            return self._folders.mtime(folder)
        except OSError:
            return None
