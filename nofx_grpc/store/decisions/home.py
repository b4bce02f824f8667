"""Where the bodies of records are: what the two homes have in common."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from nofx_grpc.store.decisions.entries import Entry
from nofx_grpc.store.decisions.logs import Log, Owned


class Staged(NamedTuple):
    """A body that is ready to be committed: what the database is to keep of it, and the file that waits for a name."""

    kept: bytes
    token: str = ""


class Home(Protocol):
    """Keeps the bodies of records; the index of them is in the database in any case."""

    in_files: bool  # and not in the database

    async def open(self) -> None:
        """See whether this is the home that the database knows.  Raises StartError."""

    def is_current(self, log: Log) -> bool:
        """Whether the index has all that came to a log from elsewhere; not on the event loop."""

    async def refresh(self, trader_id: str, owned: Owned) -> Owned:
        """Bring the index of a trader up to date with what came from elsewhere; what it has now."""

    async def found(self, trader_id: str) -> str | None:
        """The folder that a trader has on disk; None if it has none.  Raises StoreUnavailable if nobody can tell."""

    async def folder(self, trader_id: str, owned: Owned) -> str:
        """The folder of a trader, which may not be there yet."""

    def stage(self, body: bytes) -> Staged:
        """Make a body ready for the commit of its entry; not on the event loop.  Raises StoreFull, StoreUnavailable."""

    async def publish(self, folder: str, id: str, staged: Staged) -> None:
        """Have a body that was committed get its place, which need not be waited for: the database has a copy."""

    async def discard(self, staged: Staged) -> None:
        """Forget a body that was not committed."""

    async def settle(self) -> None:
        """See that published bodies have their places for good; the database keeps no copy then.  Raises as `stage`."""

    async def load(self, log: Log, wanted: Sequence[Entry]) -> list[bytes | None]:
        """The bodies of entries; None for one that is gone.  What is there may be no record any more."""

    async def reread(self, log: Log, ids: Sequence[str]) -> None:
        """Bring the index in step with bodies that have turned out to be no records any more."""

    async def remove(self, log: Log, ids: Sequence[str]) -> None:
        """Delete the bodies of records whose entries are gone.  Raises StoreUnavailable for bodies that stay for now:
        they do not come back, and are deleted later.
        """

    async def finish_removing(self, log: Log) -> None:
        """Delete what is left of the bodies of all records that were removed from a log.  Raises as `remove`."""

    async def tidy(self) -> int:
        """Clean up after processes that were killed while they appended; how many records there were to see to."""
