"""Appending decision records: each whole or not at all, its cycle one more than the last.

The body is made durable first, under no name; the commit of its entry, together with the audit record and the answer
kept for its request id, decides; then its file gets its name.  Two who append to one log at one time both build on the
same last cycle, and the commit refuses the second, who begins again: in one process they wait for each other instead.
"""

import asyncio
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from nofx_grpc.decisions.names import record_id
from nofx_grpc.decisions.records import Content, dump, facts
from nofx_grpc.decisions.times import parse_time
from nofx_grpc.errors import InvalidArgument, Violation
from nofx_grpc.services.call import Call
from nofx_grpc.services.decision_keeping import DecisionKeeping, message_of
from nofx_grpc.services.decision_messages import to_content
from nofx_grpc.store.decisions import index, logs
from nofx_grpc.store.decisions.entries import Entry, entry_of
from nofx_grpc.store.decisions.home import Staged
from nofx_grpc.store.decisions.index import Appended
from nofx_grpc.v1 import decision_logs_pb2 as pb

_NAMEABLE: Final = range(2**63)  # nanoseconds since 1970 that the index can hold


class Draft(NamedTuple):
    """A record with its number, ready to be kept."""

    id: str
    content: Content
    body: bytes
    entry: Entry


class Appends:
    """Appends to the logs."""

    def __init__(self, keeping: DecisionKeeping) -> None:
        self._keeping = keeping
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def append(self, request: pb.AppendDecisionRequest, call: Call) -> pb.Decision:
        """Append a record, and return it as kept, without its long texts.

        Raises InvalidArgument, NotFound, FailedPrecondition, StoreFull, StoreUnavailable.
        """
        content = await asyncio.to_thread(to_content, request.decision, self._keeping.now())
        if parse_time(content["timestamp"]).ns not in _NAMEABLE:
            raise InvalidArgument(Violation("decision.time", "must be between the years 1970 and 2262"))
        async with self._locks.setdefault(request.trader_id, asyncio.Lock()):
            while True:
                try:
                    answer = await self._append_next(request, content, call)
                except logs.Moved:
                    continue
                self._keeping.announce(request.trader_id)
                return answer

    async def _append_next(self, request: pb.AppendDecisionRequest, content: Content, call: Call) -> pb.Decision:
        """Append a record after the last one that there is now.  Raises as `append`, and Moved if it is not the last
        any more.
        """
        keeping, trader_id = self._keeping, request.trader_id
        owned = (await keeping.db.read(logs.find, trader_id)).value
        index.check_owner(owned, request.user_id, trader_id)
        owned = await keeping.home.refresh(trader_id, owned)
        folder = await keeping.home.folder(trader_id, owned)
        last_cycle = owned.log.last_cycle if owned.log else 0
        draft = await asyncio.to_thread(_draft, content, last_cycle + 1)
        staged = await keeping.home.stage(draft.body)
        entry = draft.entry._replace(staged=staged.token)

        def to_answer(appended: Appended) -> pb.Decision:
            return message_of(appended.log, draft.id, draft.content, draft.body, pb.DECISION_VIEW_BASIC)

        try:
            answer = await call.write(
                to_answer, index.append, request.user_id, trader_id, folder, last_cycle, entry, staged.kept
            )
        except logs.Moved:
            await keeping.home.discard(staged)
            raise
        await asyncio.shield(self._settle(folder, draft.id, staged, repeated=answer.id != draft.id))
        return answer

    async def _settle(self, folder: str, id: str, staged: Staged, *, repeated: bool) -> None:
        """Give the record its name; of a repeated request there is nothing to name."""
        if repeated:
            await self._keeping.home.discard(staged)
        else:
            await self._keeping.home.publish(folder, id, staged)


def _draft(content: Content, cycle: int) -> Draft:
    numbered = content | {"cycle_number": cycle}
    known = facts(numbered)
    body = dump(numbered)
    id = record_id(known.time_ns, cycle)
    return Draft(id, numbered, body, entry_of(id, known, size=len(body)))
