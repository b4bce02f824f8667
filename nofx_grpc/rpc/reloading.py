"""Files that are read again when they change, while the server runs."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import structlog

from nofx_grpc.errors import StartError

logger = structlog.get_logger(__name__)

PERIOD_SECONDS = 1.0

T = TypeVar("T")
Stamps = tuple[tuple[int, int, int] | None, ...]


class Reloading(Generic[T]):
    """What `load` makes of some files, anew whenever they change.

    What cannot be loaded any more leaves what was there before, is logged once, and tried again at each look: it may
    have been the moment (a disk that did not answer), and what it says may be that somebody has lost rights.
    """

    def __init__(self, what: str, paths: Sequence[Path], load: Callable[[], T]) -> None:
        """Raises what `load` raises."""
        self._what, self._paths, self._load = what, paths, load
        self._seen = self._loaded = _stamps(paths)
        self._problem = ""
        self.value = load()

    def look(self) -> None:
        """Load again if the files have changed, and have not changed any more since the last look.

        Somebody who is still writing is left to finish: half a list is a valid list, too.
        """
        now = _stamps(self._paths)
        settled, self._seen = now == self._seen, now
        if not settled or (now == self._loaded and not self._problem):
            return
        known, self._problem = self._problem if now == self._loaded else "", ""
        self._loaded = now
        try:
            self.value = self._load()
        except StartError as error:
            self._fail(error.message, known)
        except Exception as error:  # noqa: BLE001  # a file can be broken in ways that nobody has thought of
            self._fail("it cannot be read", known, error)
        else:
            logger.info("reloaded", what=self._what)

    def _fail(self, problem: str, known: str, error: Exception | None = None) -> None:
        """Keep what was loaded before, and tell of a problem that is not known of these files yet."""
        self._problem = problem
        if problem != known:
            kept = "what was loaded before"
            logger.error("reload_failed", what=self._what, problem=problem, kept=kept, exc_info=error)


class Looks(Protocol):
    def look(self) -> None: ...


async def keep_looking(files: Iterable[Looks], period: float = PERIOD_SECONDS) -> None:
    """Look at the files about once a second, off the event loop, until cancelled."""
    files = list(files)
    while files:
        await asyncio.sleep(period)
        for each in files:
            await asyncio.to_thread(each.look)


def _stamps(paths: Sequence[Path]) -> Stamps:
    return tuple(map(_stamp, paths))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
