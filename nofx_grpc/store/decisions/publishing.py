"""Files that get their names behind the answers: until they have them for good, the database keeps their bodies.

So nobody waits for a second disk, and many files are seen to at one time.  Whoever is killed, or loses power, loses no
record: `Naming` makes the files that are missing.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from operator import attrgetter
from typing import Final, NamedTuple

import structlog

from nofx_grpc.decisions.names import SUFFIX
from nofx_grpc.errors import NofxError
from nofx_grpc.store.decisions import bodies
from nofx_grpc.store.decisions.folders import Folders
from nofx_grpc.store.decisions.following import Following
from nofx_grpc.store.engine import Database

MOST_WAITING: Final = 1000  # where the disk is slower than those who append, they wait for it
_AT_ONCE: Final = 100
_AT_ONE_TIME: Final = 4  # files that are made durable: a disk does some together about as fast as one
_COMPANY_SECONDS: Final = 0.02  # which a file waits for others: seen to together, they cost each much less

logger = structlog.get_logger(__name__)


class Nameless(NamedTuple):
    """A record that was committed, and its staged file."""

    folder: str
    id: str
    token: str


class Publishing:
    """Names staged files, in the order in which they come."""

    def __init__(self, db: Database, folders: Folders, following: Following) -> None:
        self._db, self._folders, self._following = db, folders, following
        self._waiting: deque[tuple[Nameless, asyncio.Future[None]]] = deque()
        self._room = asyncio.Semaphore(MOST_WAITING)
        self._work: asyncio.Task[None] | None = None
        self._last: asyncio.Future[None] | None = None  # done once all that were put have been seen to
        self._named: dict[str, list[str]] = {}  # ids by folder: their names are not durable yet

    async def put(self, record: Nameless) -> None:
        """Have a file named, once there are not too many that wait for it."""
        await self._room.acquire()
        self._last = asyncio.get_running_loop().create_future()
        self._waiting.append((record, self._last))
        if self._work is None:
            self._work = asyncio.create_task(self._name_all())

    async def wait(self) -> None:
        """Wait until the files that have been put have their names, but for those that could not get them."""
        if self._last is not None:
            await asyncio.shield(self._last)

    async def settle(self) -> None:
        """Wait as above, and let go of the bodies whose files have their names for good.

        Raises StoreFull, StoreUnavailable; the bodies stay then.
        """
        await self.wait()
        named, self._named = self._named, {}
        if named:
            await asyncio.to_thread(self._settle_all, list(named))
            await self._db.write(bodies.forget_named, named)

    async def _name_all(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(_COMPANY_SECONDS)
                await self._name_some([self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))])
        finally:
            self._work = None

    async def _name_some(self, some: Sequence[tuple[Nameless, asyncio.Future[None]]]) -> None:
        try:
            await self._name([record for record, _ in some])
        except Exception:  # the database has their bodies, and others come behind them
            logger.exception("decisions_not_named", count=len(some))
        finally:
            for _, seen_to in some:
                self._room.release()
                seen_to.set_result(None)

    async def _name(self, records: Sequence[Nameless]) -> None:
        """Make files durable, several at one time, and then name them."""
        parts = [records[n::_AT_ONE_TIME] for n in range(min(_AT_ONE_TIME, len(records)))]
        durable = set[str]().union(
            *await asyncio.gather(*(asyncio.to_thread(self._made_durable, part) for part in parts))
        )
        records = [record for record in records if record.token in durable]
        for record in await asyncio.to_thread(self._named_of, records):
            self._named.setdefault(record.folder, []).append(record.id)

    def _made_durable(self, records: Sequence[Nameless]) -> set[str]:
        """The tokens of those whose files are durable."""
        return {record.token for record in records if self._is_durable(record)}

    def _named_of(self, records: Sequence[Nameless]) -> list[Nameless]:
        """Those of these records whose files have got their names."""
        named: list[Nameless] = []
        for folder, of_folder in groupby(sorted(records, key=attrgetter("folder")), attrgetter("folder")):
            with self._following.own_change(folder):
                named += filter(self._is_named, of_folder)  # in the order of their commits
        return named

    def _is_durable(self, record: Nameless) -> bool:
        try:
            self._folders.make_durable(record.token)
        except NofxError as error:
            _warn(record, error)
            with suppress(NofxError):
                self._folders.discard(record.token)
            return False
        return True

    def _is_named(self, record: Nameless) -> bool:
        try:
            return self._folders.publish(record.folder, record.token, record.id + SUFFIX)
        except NofxError as error:
            _warn(record, error)
            return False

    def _settle_all(self, folders: Sequence[str]) -> None:
        for folder in folders:
            self._folders.settle(folder)


def _warn(record: Nameless, error: NofxError) -> None:
    """An error of the file of a record that was committed makes no refusal of it: the database has its body."""
    logger.warning("decision_not_named", folder=record.folder, id=record.id, error=error.message)
