"""What appending, reading and pruning decision records have in common: whose they are, and their bodies."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar

from nofx_grpc.decisions.records import Content, NotARecord, parse
from nofx_grpc.decisions.times import Moment
from nofx_grpc.errors import NotFound
from nofx_grpc.services import decision_messages
from nofx_grpc.services.decision_portions import Shown, is_too_large, shorten
from nofx_grpc.store.decisions import logs
from nofx_grpc.store.decisions.entries import Entry
from nofx_grpc.store.decisions.home import Home
from nofx_grpc.store.decisions.logs import Log, Owned
from nofx_grpc.store.engine import Database
from nofx_grpc.v1 import decision_logs_pb2 as pb

T = TypeVar("T")

_EPOCH_SECONDS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class DecisionKeeping:
    """The records of this process: their index, their home, and who waits for new ones."""

    db: Database
    home: Home
    clock: Callable[[], datetime]
    _waiting: dict[str, set[asyncio.Event]] = field(default_factory=dict)

    async def owned(self, user_id: str, trader_id: str) -> Owned:
        """A trader and its log as it is now.

        Raises NotFound if there is neither, or if they are not this user's; '' stands for any user.
        """
        found = (await self.db.read(logs.find, trader_id)).value
        if user_id and found.owner != user_id:
            raise NotFound("trader", trader_id)
        found = await self.home.refresh(trader_id, found)
        if found.log is None and found.trader_user_id is None:
            raise NotFound("trader", trader_id)
        return found

    async def claims(self, trader_ids: Sequence[str]) -> logs.Claims:
        """What is to be known of traders that are deleted, so that their records stay their user's.

        Raises StoreUnavailable if it cannot be told whether there are any.
        """
        found: dict[str, str | None] = {}
        for trader_id in trader_ids:
            log = (await self.db.read(logs.find, trader_id)).value.log
            found[trader_id] = None if log else await self.home.found(trader_id)
        return found

    async def whole(self, log: Log, entry: Entry, view: pb.DecisionView.ValueType) -> pb.Decision | None:
        """A record, however large it is; None if it was deleted meanwhile, or is no record any more."""
        [body] = await self.home.load(log, [entry])
        if body is None:
            return None
        message = await asyncio.to_thread(to_message, log, entry.id, body, view)
        if message is None:
            await self.home.reread(log, [entry.id])
        return message

    async def shown(self, log: Log, portion: Sequence[Entry], view: pb.DecisionView.ValueType) -> list[Shown]:
        """The records of a portion of entries, each no larger than fits into a response."""
        wanted = [entry for entry in portion if not is_too_large(entry)]
        bodies = dict(zip(wanted, await self.home.load(log, wanted), strict=True))
        found = await asyncio.to_thread(lambda: [_shown(log, entry, bodies.get(entry), view) for entry in portion])
        damaged = [entry.id for entry, message, _ in found if message is None and bodies[entry] is not None]
        if damaged:
            await self.home.reread(log, damaged)
        return found

    def now(self) -> Moment:
        at = self.clock()
        return Moment(int(at.timestamp()) * _EPOCH_SECONDS + at.microsecond * 1000)

    def announce(self, trader_id: str) -> None:
        """Wake those who wait for a record of this trader."""
        for event in self._waiting.get(trader_id, ()):
            event.set()

    @contextmanager
    def waiting(self, trader_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when this process has appended to the log."""
        event = asyncio.Event()
        same = self._waiting.setdefault(trader_id, set())
        same.add(event)
        try:
            yield event
        finally:
            same.discard(event)
            if not same:
                self._waiting.pop(trader_id, None)


def to_message(log: Log, id: str, body: bytes, view: pb.DecisionView.ValueType) -> pb.Decision | None:
    """The message of a record; None if its file is no record any more."""
    try:
        content = parse(body)
    except NotARecord:
        return None
    return message_of(log, id, content, body, view)


def message_of(log: Log, id: str, content: Content, body: bytes, view: pb.DecisionView.ValueType) -> pb.Decision:
    """The message of a record with this content."""
    message = decision_messages.to_proto(content, view)
    message.user_id, message.trader_id, message.id = log.user_id, log.trader_id, id
    message.size_bytes = len(body)
    if view == pb.DECISION_VIEW_RAW:
        message.raw_json = body
    return message


def _shown(log: Log, entry: Entry, body: bytes | None, view: pb.DecisionView.ValueType) -> Shown:
    if is_too_large(entry):
        message: pb.Decision | None = _placed(log, entry)
    else:
        message = None if body is None else to_message(log, entry.id, body, view)
    return Shown(entry, message, shorten(message) if message else 0)


def _placed(log: Log, entry: Entry) -> pb.Decision:
    """What the index knows of a record."""
    message = pb.Decision(user_id=log.user_id, trader_id=log.trader_id, id=entry.id, shortened=True)
    message.time.FromNanoseconds(entry.time_ns)
    message.cycle_number, message.success, message.size_bytes = entry.cycle_number, entry.success, entry.size_bytes
    return message


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
