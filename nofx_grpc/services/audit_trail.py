"""The part of the service Admin that reads, checks, exports and prunes the audit log; each call is on record itself."""

import asyncio
from datetime import UTC, datetime

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from nofx_grpc.crypto.chain import ChainKey
from nofx_grpc.errors import AuditBroken, InvalidArgument, Violation
from nofx_grpc.services.call import Call
from nofx_grpc.services.convert import to_timestamp
from nofx_grpc.services.pages import Pages
from nofx_grpc.store import audit, audit_chain, audit_export
from nofx_grpc.store.audit_events import AuditEvent, Listing
from nofx_grpc.store.audit_heads import Heads, HeadsDamaged
from nofx_grpc.store.audit_prune import prune
from nofx_grpc.store.audit_verify import Compared, Kind, Report, Verification
from nofx_grpc.store.engine import Connection, Database
from nofx_grpc.v1 import audit_pb2 as pb

PRUNED_AT_ONCE = 200  # each batch is a write of its own, so that those who wait to write wait for one batch at most
_PACKAGE = "/nofx_grpc.v1."


class AuditTrail:
    """Lists, verifies, exports the heads of, and prunes the audit log."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._verifying = asyncio.Lock()

    async def ListAuditEvents(self, request: pb.ListAuditEventsRequest, call: Call) -> pb.ListAuditEventsResponse:
        response = await self._pages.answer(request, call, listing_of(request), to_event, pb.ListAuditEventsResponse)
        await call.record(audit.OK)
        return response

    async def VerifyAudit(self, request: pb.VerifyAuditRequest, call: Call) -> pb.VerifyAuditResponse:
        given = given_heads(request.head, call.db.audit_key)
        async with self._verifying:
            report = await verify(call.db, given)
        outcome = (audit.FAILED, AuditBroken.reason) if report.found else (audit.OK, "")
        await call.record(*outcome, resources=f"{report.records} records, {report.found} findings")
        return to_response(report)

    async def ExportAuditHead(self, request: pb.ExportAuditHeadRequest, call: Call) -> pb.ExportAuditHeadResponse:
        known, _ = await _known_heads(call.db)
        heads = (await call.db.scan(_export, known, self._pages.clock())).value
        records = sum(head.position for head in heads.chains.values())
        await call.record(audit.OK, resources=f"{len(heads.chains)} chains")
        return pb.ExportAuditHeadResponse(
            head=heads.signed(call.db.audit_key),
            time=_time_of(heads),
            chain_count=len(heads.chains),
            record_count=records,
        )

    async def PruneAudit(self, request: pb.PruneAuditRequest, call: Call) -> pb.PruneAuditResponse:
        before = time_in(request, "before")
        if before is None or before > self._pages.clock():
            raise InvalidArgument(Violation("before", "must have passed"))
        await call.record(audit.OK, resources=f"records before {before.isoformat()}")
        pruned = 0
        try:
            for head in (await call.db.scan(_tails)).value:
                pruned += await _prune(call.db, head.chain_id, before, force=request.force)
        except AuditBroken as error:
            await call.record(audit.FAILED, error.reason, resources=f"{pruned} records")
            raise
        await _forget_pruned(call.db, self._pages.clock())
        return pb.PruneAuditResponse(pruned_count=pruned)


async def verify(db: Database, given: list[Compared]) -> Report:
    """Walk over the whole log, in a reader thread."""
    known, wrong = await _known_heads(db)
    verification = Verification(db.audit_key, [*known, *given])
    for kind, text in wrong:
        verification.report.add(kind, "", 0, 0, text)
    while (await db.scan(verification.step)).value:
        pass
    return verification.report


def given_heads(document: str, key: ChainKey) -> list[Compared]:
    """The heads that a caller has kept.  Raises InvalidArgument for what was not exported from this database."""
    if not document:
        return []
    try:
        return [Compared("the head that was given", Heads.read(document, key))]
    except HeadsDamaged as error:
        text = f"must be what ExportAuditHead has returned, unchanged: {error}"
        raise InvalidArgument(Violation("head", text)) from None


def listing_of(request: pb.ListAuditEventsRequest) -> Listing:
    """What a request lists.  Raises InvalidArgument for a time that is none."""
    method = request.method
    return Listing(
        principal=request.principal,
        method=method if not method or method.startswith("/") else _PACKAGE + method,
        resource=request.resource,
        outcome=pb.AuditOutcome.Name(request.outcome).removeprefix("AUDIT_OUTCOME_") if request.outcome else "",
        start=time_in(request, "start_time"),
        end=time_in(request, "end_time"),
    )


def time_in(request: Message, name: str) -> datetime | None:
    """A time of a request, None if it is not set.  Raises InvalidArgument."""
    if not request.HasField(name):
        return None
    try:
        at: datetime = getattr(request, name).ToDatetime(UTC)
    except ValueError:
        raise InvalidArgument(Violation(name, "must be a time from the year 1 to the year 9999")) from None
    return at


def to_event(event: AuditEvent) -> pb.AuditEvent:
    """A record as an operator sees it."""
    return pb.AuditEvent(
        principal=event.principal,
        role=event.role,
        method=event.method,
        peer=event.peer,
        user_id=event.user_id,
        resources=event.resources,
        outcome=pb.AuditOutcome.Value(f"AUDIT_OUTCOME_{event.outcome}"),
        reason=event.reason,
        revision=event.revision or 0,
        request_id=event.request_id,
        time=to_timestamp(event.at),
        chain_id=event.chain_id,
        chain_position=event.chain_position,
    )


def to_response(report: Report) -> pb.VerifyAuditResponse:
    """What was found, as a message."""
    findings = [
        pb.AuditFinding(
            kind=pb.AuditFindingKind.Value(f"AUDIT_FINDING_KIND_{finding.kind}"),
            chain_id=finding.chain_id,
            first_position=finding.first,
            last_position=finding.last,
            description=finding.text,
        )
        for finding in report.findings
    ]
    heads = [
        pb.AuditHead(source=source, time=_time_of(heads), chain_count=len(heads.chains))
        for source, heads in report.compared
    ]
    return pb.VerifyAuditResponse(
        ok=not report.found,
        findings=findings,
        finding_count=report.found,
        record_count=report.records,
        chain_count=report.chains,
        heads=heads,
        newer_count=report.newer,
        unheaded_chain_count=report.unheaded,
        sealed_later_count=report.before,
    )


async def _known_heads(db: Database) -> tuple[list[Compared], list[tuple[Kind, str]]]:
    """The heads of this server's file, as far as its own chain is now."""
    if db.heads is None:
        return [], []
    await asyncio.to_thread(db.heads.flush)
    return await asyncio.to_thread(audit_export.known_heads, db.heads.file)


def _export(connection: Connection, known: list[Compared], now: datetime) -> Heads:
    return audit_export.export(connection, known[0].heads if known else None, now)


def _tails(connection: Connection) -> list[audit_chain.Head]:
    return list(audit_chain.tails(connection))


async def _prune(db: Database, chain_id: str, before: datetime, *, force: bool) -> int:
    pruned, done = 0, PRUNED_AT_ONCE
    while done == PRUNED_AT_ONCE:
        done = (await db.write(prune, db.audit_key, chain_id, before, PRUNED_AT_ONCE, force=force)).value
        pruned += done
    return pruned


async def _forget_pruned(db: Database, now: datetime) -> None:
    """Take chains of which nothing is left out of the head file; what remains of them is their anchor."""
    known, _ = await _known_heads(db)
    if db.heads is None or not known:
        return
    gone = (await db.scan(audit_export.pruned_away, db.audit_key, known[0].heads)).value
    if gone:
        await asyncio.to_thread(db.heads.file.update, (), now, gone)


def _time_of(heads: Heads) -> Timestamp:
    return to_timestamp(datetime.fromisoformat(heads.at))
