"""All resources as they are, read page by page while others write.

No transaction stays open while a client reads: each page is a read of its own, at a revision of its own.  Afterwards
the changes from the first page's revision on make one state of them, but for those that a page already shows.
"""

from collections.abc import AsyncIterator, Iterable
from typing import Any, NamedTuple

from nofx_grpc.services.covered import Covered
from nofx_grpc.services.groups import by_size
from nofx_grpc.services.watch_messages import KINDS, MOST_BYTES, WatchedKind
from nofx_grpc.store.changes import Change
from nofx_grpc.store.engine import Connection, Database
from nofx_grpc.store.revisions import Kind
from nofx_grpc.v1 import watch_pb2 as pb

PAGE_ROWS = 500


class _Page(NamedTuple):
    messages: list[pb.Resource]
    last_key: tuple[str, ...]
    more: bool


class Snapshot:
    """One stream's initial state: its pages, and what of the later changes they show already."""

    def __init__(self, db: Database, kinds: Iterable[Kind], user_id: str) -> None:
        self._db, self._user_id = db, user_id
        self._covered = {kind: Covered() for kind in kinds}

    async def pages(self) -> AsyncIterator[pb.Snapshot]:
        """The resources, kind by kind, in the order of their keys."""
        for kind, covered in self._covered.items():
            watched, last_key, more = KINDS[kind], tuple[str, ...](), True
            while more:
                (messages, last_key, more), revision = await self._db.scan(_page, watched, self._user_id, last_key)
                if more:
                    covered.add(last_key, revision)
                else:
                    covered.add_rest(revision)
                if messages:
                    yield pb.Snapshot(kind=watched.value, resources=messages)

    def shows(self, change: Change, revision: int) -> bool:
        """Whether a page was read after this change, so that the client must not be told of it again."""
        kind = Kind(change.kind)
        return revision <= self._covered[kind].at(KINDS[kind].key(change))


def _page(connection: Connection, watched: WatchedKind, user_id: str, after: tuple[str, ...]) -> _Page:
    """The next resources after a key, as many as a response takes."""
    records: list[Any] = watched.resource.page(connection, user_id=user_id, after=after, limit=PAGE_ROWS)
    first = next(by_size(map(watched.message, records), MOST_BYTES), [])
    more = len(first) < len(records) or len(records) == PAGE_ROWS
    return _Page(first, watched.resource.key_of(records[len(first) - 1]) if first else (), more)
