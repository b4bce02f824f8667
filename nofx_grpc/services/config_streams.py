"""Streams of complete configurations: all of them as they are, then each again when something in it changes.

Each is read anew before it is sent, and nothing waits in a queue: a client that reads slowly is sent less, and never
anything older than it was sent before.  No transaction stays open while a client reads.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import NamedTuple

from nofx_grpc.crypto.envelope import Envelope
from nofx_grpc.services import trader_configs
from nofx_grpc.services.call import Call
from nofx_grpc.services.config_changes import Look, Relevant, look
from nofx_grpc.services.covered import Covered, Seen
from nofx_grpc.services.feed import Feed
from nofx_grpc.services.groups import by_size, size_in_another
from nofx_grpc.services.watch_messages import MOST_BYTES
from nofx_grpc.store import audit, revisions, traders
from nofx_grpc.store import trader_configs as store
from nofx_grpc.store.engine import Connection
from nofx_grpc.store.trader_configs import FIRST, Key
from nofx_grpc.v1 import traders_pb2 as pb

PAGE = 100  # configurations that are read at one time, at most
FIRST_PAGE = 25
CHUNK = 50  # configurations that one audit record names
PATIENCE = 3  # rounds in which others may write between an audit record and the read that follows it


class Batch(NamedTuple):
    """What a client is sent at one time; `revision` if it holds the store's state at that revision then, else 0."""

    configs: list[pb.TraderConfig]
    removed: list[pb.TraderKey]
    revision: int = 0

    def __repr__(self) -> str:
        return f"Batch({len(self.configs)} with their secrets, revision {self.revision})"


class _Page(NamedTuple):
    configs: list[pb.TraderConfig]
    last: Key
    more: bool

    def __repr__(self) -> str:
        return f"_Page({len(self.configs)} with their secrets, last {self.last})"


class _Chunk(NamedTuple):
    """Configurations that were read, those that were not there, and what was to be seen besides at that revision."""

    configs: list[pb.TraderConfig]
    removed: list[pb.TraderKey]
    rest: Look

    def __repr__(self) -> str:
        return f"_Chunk({len(self.configs)} with their secrets)"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which configurations are streamed: a user's or ('') all, and whether only runnable ones."""

    user_id: str
    runnable_only: bool


class ConfigStream:
    """One stream.  `initial` or `resume` first, then `settle` for the state of one revision, or `follow`."""

    def __init__(self, call: Call, envelope: Envelope, selection: Selection) -> None:
        self._call, self._db, self._envelope = call, call.db, envelope
        self.history_id = call.db.history_id  # that all its revisions belong to
        self._user_id, self._runnable_only = selection.user_id, selection.runnable_only
        self._relevant = Relevant(selection.user_id)
        self._seen = Seen()
        self._position = 0  # all changes up to this revision have been sent
        self._rows = min(FIRST_PAGE, PAGE)  # that the next page reads: about as many as a message has taken

    def resume(self, revision: int) -> None:
        """Begin with a client that knows the state of this revision."""
        self._position = revision

    async def initial(self, start: int) -> AsyncGenerator[Batch, None]:
        """All configurations, page by page, each page at a revision of its own, none of them before `start`."""
        self._position = start
        await self._record(start, f"all traders of {self._user_id}" if self._user_id else "all traders")
        covered, last, more = Covered(), FIRST, True
        while more:
            (configs, last, more), revision = await self._db.scan(self._page, last)
            if more:
                covered.add(last, revision)
            else:
                covered.add_rest(revision)
            if configs:
                await self._record_each(revision, [_key_of(config) for config in configs])
                yield Batch(configs, [])
        self._seen.add_pages(covered)

    async def settle(self) -> AsyncGenerator[Batch, None]:
        """What has changed since, until the client holds the state of one revision: the last batch says which."""
        rounds = 0
        while True:
            rounds += 1
            if rounds > PATIENCE and (closing := await self._close()) is not None:
                for batch in closing:
                    yield batch
                return
            found = (await self._db.scan(look, self._position, self._relevant, self._seen)).value
            settled = found.settled
            async for batch in self._send(found):
                yield batch
                settled = batch.revision or settled
            self._advance(settled or found.revision)
            if settled:
                if found.settled:
                    yield Batch([], [], settled)
                return

    async def follow(self, feed: Feed) -> AsyncGenerator[Batch, None]:
        """As `settle`, and again whenever something changes; in quiet times an empty batch with the revision."""
        with feed.bell(self.history_id, self._relevant) as bell:
            while True:
                async with aclosing(self.settle()) as batches:
                    async for batch in batches:
                        yield batch
                rung = False
                while not rung:
                    rung, known = await bell.next(self._position, feed.options.bookmark_seconds)
                    self._advance(known)
                    if not rung:
                        yield Batch([], [], self._position)

    async def _send(self, found: Look) -> AsyncGenerator[Batch, None]:
        """Send what a look has found; the last batch has a revision if nothing else was to be seen at it."""
        if found.deleted:
            all_ = found.complete and not (found.keys or found.everything)
            yield Batch([], [_key(key) for key in found.deleted], found.revision if all_ else 0)
        async for keys, last in self._chunks(found):
            await self._record(found.revision, _names(keys))
            chunk = (await self._db.scan(self._read, keys, found.revision)).value
            for batch in _batches(chunk, chunk.rest.settled if last else 0):
                yield batch

    async def _chunks(self, found: Look) -> AsyncGenerator[tuple[list[Key], bool], None]:
        """The keys to be read, a few at a time, and whether they are the last."""
        if not found.everything:
            for start in range(0, len(found.keys), CHUNK):
                yield found.keys[start : start + CHUNK], start + CHUNK >= len(found.keys)
            return
        # None of the found keys may be left out of its page: it would count as read at the page's revision.
        covered, last, more = Covered(), FIRST, True
        while more:
            page, revision = await self._db.scan(_keys, self._user_id, last)
            more = len(page) == CHUNK
            if more:
                covered.add(last := page[-1], revision)
            else:
                covered.add_rest(revision)
                self._seen.add_pages(covered)
            if page:
                yield page, not more

    async def _close(self) -> list[Batch] | None:
        """The last batches, where others write so often that nothing else would come to an end.

        Here what is sent is read before its audit record is durable, in the snapshot that shows that nothing else has
        changed; it leaves after.  None if there is too much for one message.
        """
        found, chunk = (await self._db.scan(self._look_and_read)).value
        if chunk is None:
            return None
        if found.keys:
            await self._record(found.revision, _names(found.keys))
        self._advance(found.revision)
        return list(_batches(chunk, found.revision))

    def _advance(self, position: int) -> None:
        self._position = max(self._position, position)
        self._seen.forget(self._position)

    async def _record(self, revision: int, resources: str) -> None:
        self._call.revision = revision
        await self._call.record(audit.OK, resources=resources)

    async def _record_each(self, revision: int, keys: list[Key]) -> None:
        """As `_record`, of many, in one commit most likely."""
        chunks = (keys[start : start + CHUNK] for start in range(0, len(keys), CHUNK))
        await asyncio.gather(*(self._record(revision, _names(chunk)) for chunk in chunks))

    # ---- in a reader thread

    def _page(self, connection: Connection, after: Key) -> _Page:
        """As many as a message takes: who does not read must not make the server hold more than that."""
        rows = store.page(connection, self._user_id, after, self._rows)
        full, configs, size = len(rows) == self._rows, list[pb.TraderConfig](), 0
        for number, row in enumerate(rows):
            shown = list(self._wanted([trader_configs.complete(self._envelope, row)]))
            size += sum(map(size_in_another, shown))
            if configs and size > MOST_BYTES:
                self._rows = number + 1
                return _Page(configs, after, more=True)
            configs += shown
            after = row.trader.user_id, row.trader.id
        self._rows = min(2 * self._rows, PAGE)
        return _Page(configs, after, more=full)

    def _read(self, connection: Connection, keys: Iterable[Key], position: int) -> _Chunk:
        revision = revisions.read_state(connection).revision
        configs, removed = [], []
        for key in keys:
            config = store.find(connection, key)
            shown = list(self._wanted([trader_configs.complete(self._envelope, config)])) if config else []
            configs += shown
            removed += [] if shown else [_key(key)]
            self._seen.add(key, revision)
        return _Chunk(configs, removed, look(connection, position, self._relevant, self._seen))

    def _look_and_read(self, connection: Connection) -> tuple[Look, _Chunk | None]:
        found = look(connection, self._position, self._relevant, self._seen)
        if found.everything or not found.complete or len(found.keys) > CHUNK:
            return found, None
        chunk = self._read(connection, found.keys, found.revision)
        chunk.removed.extend(_key(key) for key in found.deleted)
        return found, chunk

    def _wanted(self, configs: Iterable[pb.TraderConfig]) -> Iterator[pb.TraderConfig]:
        return (config for config in configs if config.runnable or not self._runnable_only)


def _keys(connection: Connection, user_id: str, after: Key) -> list[Key]:
    page = traders.resource.page(connection, user_id=user_id, after=after, limit=CHUNK)
    return [(trader.user_id, trader.id) for trader in page]


def _names(keys: Iterable[Key]) -> str:
    """Traders as an audit record names them."""
    return "; ".join("/".join(key) for key in keys)


def _key_of(config: pb.TraderConfig) -> Key:
    return config.trader.user_id, config.trader.id


def _key(key: Key) -> pb.TraderKey:
    return pb.TraderKey(user_id=key[0], trader_id=key[1])


def _batches(chunk: _Chunk, revision: int) -> Iterator[Batch]:
    """A chunk in batches that are not too large; the last one has the revision."""
    *before, last = list(by_size(chunk.configs, MOST_BYTES)) or [[]]
    for group in before:
        yield Batch(group, [])
    if last or chunk.removed or revision:
        yield Batch(last, chunk.removed, revision)
