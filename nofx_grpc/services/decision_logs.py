"""The service DecisionLogs: the record of what each agent saw, thought and did."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from nofx_grpc.decisions.times import SECOND
from nofx_grpc.errors import FailedPrecondition, InvalidArgument, NotFound, Violation
from nofx_grpc.services.call import Call
from nofx_grpc.services.decision_appends import Appends
from nofx_grpc.services.decision_keeping import DecisionKeeping
from nofx_grpc.services.decision_portions import AT_ONCE, MOST_SHOWN_BYTES, body_bytes, portions, responses
from nofx_grpc.services.decision_pruning import prune
from nofx_grpc.services.pages import Pages
from nofx_grpc.services.performance import PerformanceRpcs
from nofx_grpc.store.decisions import entries, index, logs, pruning
from nofx_grpc.store.decisions.entries import AFTER_ALL, Entry, Key, Span
from nofx_grpc.store.decisions.logs import Log
from nofx_grpc.store.decisions.pruning import Limits, Pruned
from nofx_grpc.store.engine import Connection
from nofx_grpc.v1 import decision_logs_pb2 as pb

MOST_UNREADABLE_SHOWN: Final = 100
_MOST_READ_BYTES: Final = 32 * 1024 * 1024  # for a page: what is beyond it is for the next one
_END_OF_TIME: Final = 2**63 - 1


class DecisionLogs(PerformanceRpcs):
    """Appends, reads, follows and prunes the records of traders."""

    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["DecisionLogs"]

    def __init__(self, keeping: DecisionKeeping, pages: Pages, poll_seconds: float) -> None:
        super().__init__(keeping)
        self._pages, self._poll_seconds = pages, poll_seconds
        self._appends = Appends(keeping)

    async def AppendDecision(self, request: pb.AppendDecisionRequest, call: Call) -> pb.Decision:
        return await self._appends.append(request, call)

    async def GetDecision(self, request: pb.GetDecisionRequest, call: Call) -> pb.Decision:
        log = (await self._keeping.owned(request.user_id, request.trader_id)).log
        entry = (await self._keeping.db.read(entries.get, log.id, request.id)).value if log else None
        if log is not None and entry is not None:
            found = await self._keeping.whole(log, entry, request.view or pb.DECISION_VIEW_FULL)
            if found is not None:
                return found
        raise NotFound("decision", request.id)

    async def ListDecisions(self, request: pb.ListDecisionsRequest, call: Call) -> pb.ListDecisionsResponse:
        page = self._pages.open(request, call)
        span = span_of(request)
        log = (await self._keeping.owned(request.user_id, request.trader_id)).log
        response = pb.ListDecisionsResponse()
        if log is None:
            return response
        before = Key(int(page.after[0]), page.after[1]) if page.after else AFTER_ALL
        rows = (await self._keeping.db.scan(entries.newest, log.id, span, before, page.limit)).value
        last = await self._fill(response, log, rows[: page.size], request.view or pb.DECISION_VIEW_BASIC)
        if last is not None and last.id != rows[-1].id:
            response.next_page_token = self._pages.token(request, call, (str(last.time_ns), last.id))
        if not page.after:
            await self._tell_unreadable(response.unreadable_files, log)
        return response

    async def TailDecisions(
        self,
        request: pb.TailDecisionsRequest,
        call: Call,  # who calls was asked at the Gate
    ) -> AsyncIterator[pb.TailDecisionsResponse]:
        check_tail(request)
        view = request.view or pb.DECISION_VIEW_BASIC
        owned = await self._keeping.owned(request.user_id, request.trader_id)
        history, serial = await self._history(request, owned.log)
        if owned.log is not None:
            async for response in self._tail_responses(owned.log, history, view):
                yield response
        synced = False
        with self._keeping.waiting(request.trader_id) as appended:
            while True:
                appended.clear()
                log = (await self._keeping.owned(request.user_id, request.trader_id)).log
                new = (await self._keeping.db.read(entries.arrived, log.id, serial, AT_ONCE)).value if log else []
                if log is not None and new:
                    async for response in self._tail_responses(log, new, view):
                        yield response
                    serial = new[-1].serial
                elif not synced:
                    synced = True
                    response = pb.TailDecisionsResponse(synced=True)
                    if log is not None:
                        await self._tell_unreadable(response.unreadable_files, log)
                    yield response
                else:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._poll_seconds):
                            await appended.wait()

    async def PruneDecisions(self, request: pb.PruneDecisionsRequest, call: Call) -> pb.PruneDecisionsResponse:
        check_prune(request)
        owned = await self._keeping.owned(request.user_id, request.trader_id)
        if request.everything and owned.trader_user_id is not None:
            raise FailedPrecondition(
                f"the trader {request.trader_id!r} exists: everything of it goes only once it is deleted"
            )
        if owned.log is None:
            return pb.PruneDecisionsResponse()
        limits = limits_of(request)

        async def remove() -> Pruned:
            part = Pruned()

            def note(done: Pruned) -> pb.PruneDecisionsResponse:
                nonlocal part
                part = done
                return pb.PruneDecisionsResponse()

            await call.write(note, pruning.prune, request.trader_id, limits, in_files=self._keeping.home.in_files)
            return part

        if request.dry_run:
            pruned = (await self._keeping.db.scan(pruning.plan, request.trader_id, limits)).value
        else:
            pruned = await prune(self._keeping, owned.log, remove, everything=request.everything)
        return pb.PruneDecisionsResponse(
            deleted_count=pruned.deleted_count,
            deleted_bytes=pruned.deleted_bytes,
            remaining_count=pruned.remaining_count,
            remaining_bytes=pruned.remaining_bytes,
        )

    async def _fill(
        self, response: pb.ListDecisionsResponse, log: Log, rows: list[Entry], view: pb.DecisionView.ValueType
    ) -> Entry | None:
        """Put the records of rows into the page until it is full by bytes; the last row that was dealt with."""
        size, read, last = 0, 0, None
        for portion in portions(rows):
            if read > _MOST_READ_BYTES:
                return last
            for entry, message, more in await self._keeping.shown(log, portion, view):
                size += more
                if response.decisions and size > self._pages.most_bytes:
                    return last
                if message is not None:
                    response.decisions.append(message)
                last = entry
            read += sum(body_bytes(entry) for entry in portion)
        return last

    async def _tell_unreadable(self, files: pb.UnreadableFiles, log: Log) -> None:
        count, some = (await self._keeping.db.read(index.unreadable, log.id, MOST_UNREADABLE_SHOWN)).value
        if count:
            files.count = count
            files.files.extend(pb.UnreadableFile(name=file.name, reason=file.reason) for file in some)

    async def _history(self, request: pb.TailDecisionsRequest, log: Log | None) -> tuple[list[Entry], int]:
        """The records that a stream begins with, and the serial that it goes on after.  Raises NotFound."""
        if request.after_id:
            entry = (await self._keeping.db.read(entries.get, log.id, request.after_id)).value if log else None
            if entry is None:
                raise NotFound("decision", request.after_id, field="after_id")
            return [], entry.serial
        if log is None:
            return [], 0
        return (await self._keeping.db.scan(_latest, log.trader_id, request.history_count)).value

    async def _tail_responses(
        self, log: Log, rows: Sequence[Entry], view: pb.DecisionView.ValueType
    ) -> AsyncIterator[pb.TailDecisionsResponse]:
        for portion in portions(rows):
            for decisions in responses(await self._keeping.shown(log, portion, view), MOST_SHOWN_BYTES):
                yield pb.TailDecisionsResponse(decisions=decisions)


def check_tail(request: pb.TailDecisionsRequest) -> None:
    """Raises InvalidArgument for two places to begin at."""
    if request.after_id and request.history_count:
        raise InvalidArgument(Violation("after_id", "excludes history_count: a stream begins at one place"))


def check_prune(request: pb.PruneDecisionsRequest) -> None:
    """Raises InvalidArgument unless the request says what is to go, in one way."""
    limited = [name for name in ("before_time", "keep_count", "keep_bytes") if request.HasField(name)]
    if request.everything and limited:
        raise InvalidArgument(Violation("everything", f"excludes {limited[0]}"))
    if not request.everything and not limited:
        raise InvalidArgument(Violation("before_time", "or keep_count, or keep_bytes is needed: it says what is to go"))


def limits_of(request: pb.PruneDecisionsRequest) -> Limits:
    return Limits(
        before_ns=_ns(request.before_time) if request.HasField("before_time") else None,
        count=request.keep_count if request.HasField("keep_count") else None,
        size_bytes=request.keep_bytes if request.HasField("keep_bytes") else None,
        newest_too=request.everything,
    )


def span_of(request: pb.ListDecisionsRequest) -> Span:
    """The times that a list is limited to.  Raises InvalidArgument if they cannot be."""
    start = _ns(request.start_time) if request.HasField("start_time") else 0
    end = _ns(request.end_time) - 1 if request.HasField("end_time") else _END_OF_TIME
    if request.HasField("start_time") and start > end:
        raise InvalidArgument(Violation("end_time", "must be after start_time"))
    return Span(start, end)


def _ns(at: Timestamp) -> int:
    return min(max(at.seconds * SECOND + at.nanos, 0), _END_OF_TIME)


def _latest(connection: Connection, trader_id: str, count: int) -> tuple[list[Entry], int]:
    """The newest records, the oldest of them first, and the last serial that there is."""
    log = logs.find(connection, trader_id).log
    if log is None:
        return [], 0
    newest = entries.newest(connection, log.id, Span(), AFTER_ALL, count) if count else []
    return newest[::-1], log.last_serial
