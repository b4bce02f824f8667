"""What stands before every handler: identity, limits, errors, metadata.  `methods.py` has the methods behind it.

Handlers are registered without a deserializer, so that a request arrives as bytes and what is wrong with it is told in
our words.
"""

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc
import structlog
from google.protobuf.message import Message

from nofx_grpc.crypto.envelope import Envelope
from nofx_grpc.errors import (
    AuditUnavailable,
    DeadlineExceeded,
    InvalidArgument,
    LoginRefused,
    NofxError,
    PermissionDenied,
    RateLimited,
    RevisionNotReached,
    Unauthenticated,
    Violation,
)
from nofx_grpc.rpc.callers import Callers
from nofx_grpc.rpc.credentials import Context, credential_of
from nofx_grpc.rpc.refusals import PER_MINUTE, Refusals
from nofx_grpc.rpc.status import DETAILS_KEY, status_of
from nofx_grpc.rpc.streams import OpenStreams
from nofx_grpc.rpc.usage import InFlight, UsageLimits, Usages
from nofx_grpc.rpc.validation import MessageRules
from nofx_grpc.services.call import Call, Identity
from nofx_grpc.store import audit
from nofx_grpc.store.audit import AuditRecord
from nofx_grpc.store.engine import Database

logger = structlog.get_logger(__name__)

ANONYMOUS = Identity("anonymous", "", frozenset())
_REVISION = re.compile("[0-9]{1,19}")
_POLL_SECONDS = 0.02
_LONGEST_POLL_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may be at most, and how long it may take to arrive; how long a call waits for the revision that it
    asks for; how many refusals of a principal go on record in a minute; what it may have in flight and reveal.
    """

    request_bytes: int = 4 * 1024 * 1024
    request_seconds: float = 30.0
    min_revision_seconds: float = 5.0
    refusals_on_record: int = PER_MINUTE
    usage: UsageLimits = field(default_factory=UsageLimits)


class Gate:
    """Wraps each method of each service; nothing reaches a handler but through it."""

    def __init__(self, db: Database, envelope: Envelope, callers: Callers, limits: Limits) -> None:
        self.db, self.envelope, self.limits = db, envelope, limits
        self.rules = MessageRules()
        self._callers = callers
        self.refusals = Refusals(limits.refusals_on_record)
        self.usages = Usages(limits.usage)
        self.streams = OpenStreams(callers)
        self.unfinished: set[Context] = set()  # calls with work in them, or an answer that is not taken yet

    async def identify(self, context: Context) -> Identity:
        """Who calls.  Raises Unauthenticated."""
        return await self._callers.identify(credential_of(context))

    async def wait_for_revision(self, context: Context) -> bool:
        """Wait until the store is at the revision that the caller asks for; whether that took any time.

        Raises RevisionNotReached.
        """
        text = next((value for key, value in context.invocation_metadata() or () if key == "nofx-min-revision"), None)
        if text is None:
            return False
        if not _REVISION.fullmatch(str(text)):
            raise InvalidArgument(
                Violation("nofx-min-revision", "expected the number that an answer's nofx-revision had")
            )
        wanted = int(text)
        until, pause = time.monotonic() + self.limits.min_revision_seconds, _POLL_SECONDS
        while self.db.revision < wanted:
            current = await self.db.latest()
            if current >= wanted:
                return True
            if time.monotonic() >= until:
                raise RevisionNotReached(wanted, current)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_POLL_SECONDS)  # a thousand who wait in vain must not keep the loop busy
        return pause > _POLL_SECONDS

    def begin(self, call: Call, context: Context, *, stream: bool) -> InFlight:
        """Count a call of its principal until gRPC is done with it.  Raises RateLimited."""
        in_flight = self.usages.begin(call.identity.principal, stream=stream)
        call.turn = in_flight.usage.scanning
        context.add_done_callback(lambda _: in_flight.end())  # type: ignore[arg-type]  # to the stubs no function fits
        return in_flight

    async def receive(self, context: Context, among: asyncio.Semaphore, left: str = "nothing was done") -> Any:
        """The next request of a call as bytes, or EOF, waited for among others.

        Raises DeadlineExceeded, which tells what is `left` of the call then.
        """
        seconds = self.limits.request_seconds
        try:
            async with asyncio.timeout(seconds), among:
                return await context.read()
        except TimeoutError:
            raise DeadlineExceeded(f"the request did not arrive within {seconds:g} seconds; {left}") from None

    def call(self, method: str, context: Context, answer_type: type[Message]) -> Call:
        """A call of nobody yet."""
        self.unfinished.add(context)
        context.add_done_callback(self.unfinished.discard)  # type: ignore[arg-type]  # to the stubs no function fits
        return Call(method, ANONYMOUS, context.peer(), self.db, self.envelope, answer_type)

    def metadata(self, call: Call) -> tuple[tuple[str, str], ...]:
        """Where the store stands, as the trailing metadata of an answer."""
        return (("nofx-revision", str(call.revision or self.db.revision)), ("nofx-history", self.db.history_id))

    async def fail(self, call: Call, context: Context, error: Exception) -> NoReturn:
        """End a call with its error, on the record if it is a refusal."""
        if isinstance(error, grpc.aio.BaseError) and not isinstance(error, grpc.aio.UsageError):
            raise error  # gRPC's own: the client has gone, or the server, and there is nobody to tell
        if isinstance(error, NofxError):
            await self.put_on_record(call, error)
        if isinstance(error, AuditUnavailable):
            # A cause that is ours was told by the store; of any other nothing else would tell.
            cause = None if isinstance(error.__cause__, NofxError) else error.__cause__
            logger.error("audit_unavailable", method=call.method, exc_info=cause)
        code, text, details = status_of(error, call.method)
        logger.debug("refused", method=call.method, principal=call.identity.principal, code=code.name, text=text)
        # Where the store stands is nobody's business who has not shown who he is.
        metadata = () if call.identity is ANONYMOUS else self.metadata(call)
        self.unfinished.discard(context)
        await context.abort(code, text, (*metadata, (DETAILS_KEY, details)))

    async def put_on_record(self, call: Call, error: NofxError) -> None:
        """Record a denial or a failed login.  That it fails is logged: the caller is refused in any case."""
        if isinstance(error, LoginRefused):
            await self._try_to_record(call, call.audit_record(audit.FAILED, error.reason))
        elif isinstance(error, PermissionDenied | RateLimited):
            await self.record_denial(call, error.reason)
        elif isinstance(error, Unauthenticated):
            await self.record_denial(call, error.reason, principal=error.principal)

    async def record_denial(self, call: Call, reason: str, *, principal: str = "") -> None:
        """Record a denial, or count it, where its principal has many of them.  As `put_on_record`."""
        record = call.audit_record(audit.DENIED, reason, principal=principal)
        if self.refusals.spend(record):
            await self._try_to_record(call, record)

    async def _try_to_record(self, call: Call, record: AuditRecord) -> None:
        try:
            await call.append(record)
        except AuditUnavailable:
            logger.error("audit_unavailable", method=call.method, outcome=record.outcome, reason=record.reason)
