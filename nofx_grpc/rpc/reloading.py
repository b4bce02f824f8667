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

    What cannot be loaded any more leaves what was there before, and is logged once.
    """

    def __init__(self, what: str, paths: Sequence[Path], load: Callable[[], T]) -> None:
        """Raises what `load` raises."""
        self._what, self._paths, self._load = what, paths, load
        self._seen = self._loaded = _stamps(paths)
        self.value = load()

    def look(self) -> None:
        """Load again if the files have changed, and have not changed any more since the last look.

        Somebody who is still writing is left to finish: half a list is a valid list, too.
        """
        now = _stamps(self._paths)
        settled, self._seen = now == self._seen, now
        if now == self._loaded or not settled:
            return
        self._loaded = now
        kept = "what was loaded before"
        try:
            self.value = self._load()
        except StartError as error:
            logger.error("reload_failed", what=self._what, problem=error.message, kept=kept)
        except Exception:  # a file can be broken in ways that nobody has thought of; it is looked at again all the same
            logger.exception("reload_failed", what=self._what, problem="it cannot be read", kept=kept)
        else:
            logger.info("reloaded", what=self._what)


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
