"""Appending decision records: each whole or not at all, its cycle one more than the last.

One commit decides: the entry, the body, the audit record and the answer kept for its request id.  Where records are
files, the file is written before it, under no name, so that one who has no room for it is told; it gets its name after
it, and the answer does not wait for that.  Two who append to one log at one time both build on the same last
cycle, and the commit refuses the second, who begins again: in one process they wait for each other instead.
"""

import asyncio
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from nofx_grpc.decisions.names import record_id
from nofx_grpc.decisions.records import Content, NotARecord, dump, facts, parse
from nofx_grpc.decisions.times import parse_time
from nofx_grpc.errors import InvalidArgument, Violation
from nofx_grpc.services.call import Call
from nofx_grpc.services.decision_keeping import DecisionKeeping
from nofx_grpc.services.decision_messages import to_content, to_proto
from nofx_grpc.services.decision_portions import shorten
from nofx_grpc.store.decisions import index, logs
from nofx_grpc.store.decisions.entries import Entry, entry_of
from nofx_grpc.store.decisions.home import Staged
from nofx_grpc.store.decisions.index import Appended
from nofx_grpc.store.decisions.settling import settle_all
from nofx_grpc.v1 import decision_logs_pb2 as pb

_NAMEABLE: Final = range(2**63)  # nanoseconds since 1970 that the index can hold


class Draft(NamedTuple):
    """A record with its number, ready to be kept, and the answer to whoever appends it."""

    body: bytes
    entry: Entry
    answer: pb.Decision

    def answer_of(self, log: logs.Log) -> pb.Decision:
        """The answer once it is in this log; another message each time."""
        answer = pb.Decision(user_id=log.user_id, trader_id=log.trader_id, id=self.entry.id, size_bytes=len(self.body))
        answer.MergeFrom(self.answer)
        return answer


class Prepared(NamedTuple):
    """A record that is ready to be committed, and its folder."""

    draft: Draft
    staged: Staged
    folder: str


class Appends:
    """Appends to the logs."""

    def __init__(self, keeping: DecisionKeeping) -> None:
        self._keeping = keeping
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def append(self, request: pb.AppendDecisionRequest, call: Call) -> pb.Decision:
        """Append a record, and return it as kept, without its long texts.

        Raises InvalidArgument, NotFound, FailedPrecondition, StoreFull, StoreUnavailable.
        """
        lock = self._locks.setdefault(request.trader_id, asyncio.Lock())

        def done(task: asyncio.Task[pb.Decision]) -> None:
            lock.release()
            if not task.cancelled():
                task.exception()  # taken note of, where whoever called has gone

        await lock.acquire()
        # Who goes away meanwhile leaves nothing half done: what was committed gets its name, and the next waits for it.
        appending = asyncio.create_task(self._append_in_turn(request, call))
        appending.add_done_callback(done)
        return await asyncio.shield(appending)

    async def _append_in_turn(self, request: pb.AppendDecisionRequest, call: Call) -> pb.Decision:
        while True:
            try:
                answer = await self._append_next(request, call)
            except logs.Moved:
                continue
            self._keeping.announce(request.trader_id)
            return answer

    async def _append_next(self, request: pb.AppendDecisionRequest, call: Call) -> pb.Decision:
        """Append a record after the last one that there is now.  Raises as `append`, and Moved if it is not the last
        any more.
        """
        home, trader_id = self._keeping.home, request.trader_id
        owned = (await self._keeping.db.read(logs.find, trader_id)).value
        index.check_owner(owned, request.user_id, trader_id)
        prepared = await asyncio.to_thread(self._prepare_if_current, request.decision, owned)
        if prepared is None:
            owned = await home.refresh(trader_id, owned)
            folder = await home.folder(trader_id, owned)
            prepared = await asyncio.to_thread(self._prepare, request.decision, owned, folder)
        draft, staged, folder = prepared
        last_cycle = draft.entry.cycle_number - 1
        made: list[tuple[pb.Decision, Appended]] = []  # one for each try at the commit

        def to_answer(appended: Appended) -> pb.Decision:
            answer = draft.answer_of(appended.log)
            made.append((answer, appended))
            return answer

        try:
            answer = await call.write(
                to_answer, index.append, request.user_id, trader_id, folder, last_cycle, draft.entry, staged.kept
            )
        except BaseException:
            await home.discard(staged)
            raise
        # A repeated request has the answer that was kept, and not one of those that were made here.
        appended = next((appended for own, appended in made if own is answer), None)
        if appended is None:
            await home.discard(staged)
            return answer
        await home.publish(folder, draft.entry.id, staged)
        if appended.unsettled:
            await settle_all(self._keeping.db, trader_id)
        return answer

    def _prepare_if_current(self, decision: pb.Decision, owned: logs.Owned) -> Prepared | None:
        """As `_prepare`, if the log has all that came from elsewhere: a change of threads less."""
        if owned.log is None or not self._keeping.home.is_current(owned.log):
            return None
        return self._prepare(decision, owned, owned.log.folder)

    def _prepare(self, decision: pb.Decision, owned: logs.Owned, folder: str) -> Prepared:
        content = to_content(decision, self._keeping.now())
        if parse_time(content["timestamp"]).ns not in _NAMEABLE:
            raise InvalidArgument(Violation("decision.time", "must be between the years 1970 and 2262"))
        try:
            draft = _draft(content, (owned.log.last_cycle if owned.log else 0) + 1)
        except NotARecord as error:
            raise InvalidArgument(Violation("decision", f"cannot be kept: {error}")) from None
        return Prepared(draft, self._keeping.home.stage(draft.body), folder)


def _draft(content: Content, cycle: int) -> Draft:
    """A record as it will be read.  Raises NotARecord if it could not be."""
    body = dump(content | {"cycle_number": cycle})
    kept = parse(body)
    known = facts(kept)
    id = record_id(known.time_ns, cycle)
    answer = to_proto(kept, pb.DECISION_VIEW_BASIC)
    shorten(answer)
    return Draft(body, entry_of(id, known, size=len(body)), answer)
