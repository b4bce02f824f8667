"""What stands before every handler: identity, permission, size, parsing, validation, deadline, errors, metadata.

Handlers are registered without a deserializer, so that a request arrives here as bytes and what is wrong with it is
told in our words.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from nofx_grpc.crypto.envelope import Envelope
from nofx_grpc.errors import (
    AuditUnavailable,
    DeadlineExceeded,
    InvalidArgument,
    LoginRefused,
    NofxError,
    NotFound,
    PermissionDenied,
    RateLimited,
    RequestTooLarge,
    RevisionNotReached,
    Unauthenticated,
    Violation,
)
from nofx_grpc.rpc.callers import Callers
from nofx_grpc.rpc.credentials import Context, Credential, credential_of, end_user_of
from nofx_grpc.rpc.permissions import Rule
from nofx_grpc.rpc.status import DETAILS_KEY, status_of
from nofx_grpc.rpc.streams import OpenStreams
from nofx_grpc.rpc.usage import UsageLimits, Usages
from nofx_grpc.rpc.validation import MessageRules
from nofx_grpc.services.call import Call, Identity
from nofx_grpc.store import audit, revisions
from nofx_grpc.store.engine import Database
from nofx_grpc.v1 import common_pb2

logger = structlog.get_logger(__name__)

ANONYMOUS = Identity("anonymous", "", frozenset())
_REVEALS = (common_pb2.PERMISSION_REVEAL, common_pb2.PERMISSION_REVEAL_SYSTEM)
_REVISION = re.compile("[0-9]{1,19}")
_POLL_SECONDS = 0.02
_LONGEST_POLL_SECONDS = 0.3
REFUSALS_ON_RECORD_PER_MINUTE = 60


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may be at most, how long a call waits for the revision that it asks for, how many refused
    credentials go on record in a minute; what a principal may have in flight and reveal.
    """

    request_bytes: int = 4 * 1024 * 1024
    min_revision_seconds: float = 5.0
    refusals_on_record: int = REFUSALS_ON_RECORD_PER_MINUTE
    usage: UsageLimits = field(default_factory=UsageLimits)


class Gate:
    """Wraps each method of each service; nothing reaches a handler but through it."""

    def __init__(self, db: Database, envelope: Envelope, callers: Callers, limits: Limits) -> None:
        self.db, self.envelope, self.limits = db, envelope, limits
        self.rules = MessageRules()
        self._callers = callers
        self._refusals = RefusalBudget(limits.refusals_on_record)
        self.usages = Usages(limits.usage)
        self.streams = OpenStreams(self._identify_again)

    def handler(self, method: MethodDescriptor, behavior: Callable[..., Any]) -> "grpc.RpcMethodHandler[Any, Any]":
        """The gRPC handler of one method of one of our services."""
        gated = GatedMethod(self, method, behavior)
        if method.client_streaming:
            return grpc.stream_unary_rpc_method_handler(gated.stream_unary)
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(gated.unary_stream)
        return grpc.unary_unary_rpc_method_handler(gated.unary_unary)

    async def identify(self, context: Context) -> Identity:
        """Who calls.  Raises Unauthenticated."""
        return await self._callers.identify(credential_of(context))

    async def _identify_again(self, shown: Credential) -> Identity:
        return await self._callers.identify(shown, fresh=True)

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
            current = (await self.db.read(revisions.read_state)).revision
            if current >= wanted:
                return True
            if time.monotonic() >= until:
                raise RevisionNotReached(wanted, current)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_POLL_SECONDS)  # a thousand who wait in vain must not keep the loop busy
        return pause > _POLL_SECONDS

    def call(self, method: str, context: Context, answer_type: type[Message]) -> Call:
        """A call of nobody yet."""
        return Call(method, ANONYMOUS, context.peer(), self.db, self.envelope, answer_type)

    def metadata(self, call: Call) -> tuple[tuple[str, str], ...]:
        """Where the store stands, as the trailing metadata of an answer."""
        return (("nofx-revision", str(call.revision or self.db.revision)), ("nofx-history", self.db.history_id))

    async def fail(self, call: Call, context: Context, error: Exception) -> NoReturn:
        """End a call with its error, on the record if it is a refusal."""
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
        await context.abort(code, text, (*metadata, (DETAILS_KEY, details)))

    async def put_on_record(self, call: Call, error: NofxError) -> None:
        """Record a denial or a failed login.  That it fails is logged: the caller is refused in any case."""
        if isinstance(error, PermissionDenied):
            outcome = audit.DENIED
        elif isinstance(error, LoginRefused):
            outcome = audit.FAILED
        elif isinstance(error, Unauthenticated | RateLimited) and self._refusals.spend():
            outcome = audit.DENIED
        else:
            return
        principal = error.principal if isinstance(error, Unauthenticated) else ""
        try:
            await call.record(outcome, error.reason, principal=principal)
        except AuditUnavailable:
            logger.error("audit_unavailable", method=call.method, outcome=outcome, reason=error.reason)


class GatedMethod:
    """One method: its rule, its message types, and the handler behind it."""

    def __init__(self, gate: Gate, method: MethodDescriptor, behavior: Callable[..., Any]) -> None:
        self._gate, self._behavior = gate, behavior
        self._name = f"/{method.containing_service.full_name}/{method.name}"
        self._rule = Rule.of(method)
        self._request_type = GetMessageClass(method.input_type)
        self._answer_type = GetMessageClass(method.output_type)

    async def unary_unary(self, raw: bytes, context: Context) -> bytes:
        call = self._call(context)
        try:
            await self._admit(call, context)
            request = self._parse(raw)
            await self._check(call, request)
            with self._in_flight(call, stream=False):
                answer: Message = await self._behavior(request, call)
            return self._finish(call, context, answer)
        except Exception as error:  # noqa: BLE001  # whatever it is, its text must not reach the client as it is
            await self._gate.fail(call, context, error)

    async def stream_unary(self, stream: AsyncIterator[bytes], context: Context) -> bytes:
        call = self._call(context)
        try:
            await self._admit(call, context)
            if call.identity.user_id:
                self._check_open_to_scoped()
            opened = self._gate.streams.opened(call, credential_of(context), self._rule.permission, upload=True)
            with self._in_flight(call, stream=True), opened:
                answer: Message = await self._behavior(self._requests(stream), call)
            return self._finish(call, context, answer)
        except Exception as error:  # noqa: BLE001  # whatever it is, its text must not reach the client as it is
            await self._gate.fail(call, context, error)

    async def unary_stream(self, raw: bytes, context: Context) -> None:
        call = self._call(context)
        try:
            await self._admit(call, context)
            request = self._parse(raw)
            await self._check(call, request)
            with self._in_flight(call, stream=True):
                # Before anything can end the stream: ended in its first answer, gRPC would send this twice and fail.
                await context.send_initial_metadata(())
                with self._gate.streams.opened(call, credential_of(context), self._rule.permission):
                    async with aclosing(self._behavior(request, call)) as answers:
                        async for answer in answers:
                            # An answer that many streams share comes as bytes.
                            await context.write(answer if isinstance(answer, bytes) else answer.SerializeToString())
            context.set_trailing_metadata(self._gate.metadata(call))
        except Exception as error:  # noqa: BLE001  # whatever it is, its text must not reach the client as it is
            await self._gate.fail(call, context, error)

    async def _requests(self, stream: AsyncIterator[bytes]) -> AsyncIterator[Message]:
        async for raw in stream:
            request = self._parse(raw)
            self._gate.rules.check(request)
            yield request

    def _in_flight(self, call: Call, *, stream: bool) -> AbstractContextManager[None]:
        reveal = self._rule.permission in _REVEALS
        return self._gate.usages.in_flight(call.identity.principal, stream=stream, reveal=reveal)

    def _call(self, context: Context) -> Call:
        return self._gate.call(self._name, context, self._answer_type)

    async def _admit(self, call: Call, context: Context) -> None:
        """Everything that can be said before the request is looked at."""
        await self._identify(call, context)
        if self._rule.permission == common_pb2.PERMISSION_LOGIN:
            call.end_user = end_user_of(context)
        remaining = cast("float | None", context.time_remaining())  # None without a deadline, whatever the stubs say
        if remaining is not None and remaining <= 0:
            raise DeadlineExceeded
        if await self._gate.wait_for_revision(context):
            await self._identify(call, context)  # what was true before the wait need not be true any more

    async def _identify(self, call: Call, context: Context) -> None:
        """Raises Unauthenticated, and PermissionDenied for a caller who may not call this method."""
        call.identity = await self._gate.identify(context)
        if self._rule.permission not in call.identity.permissions:
            name = common_pb2.Permission.Name(self._rule.permission).removeprefix("PERMISSION_")
            raise PermissionDenied(
                f"{self._name} needs the permission {name}, which the role {call.identity.role!r} does not have"
            )

    def _parse(self, raw: bytes) -> Message:
        if len(raw) > self._gate.limits.request_bytes:
            raise RequestTooLarge(len(raw), self._gate.limits.request_bytes)
        try:
            return self._request_type.FromString(raw)
        except DecodeError:
            name = self._request_type.DESCRIPTOR.full_name
            text = f"is no {name}: the bytes are damaged or cut off, or a string in it is not UTF-8"
            raise InvalidArgument(Violation("request", text)) from None

    async def _check(self, call: Call, request: Message) -> None:
        """Scope first, rules second: a caller learns nothing about what it may not touch."""
        call.request = request
        call.user_id = self._rule.user_of(request)
        if call.identity.user_id and call.user_id != call.identity.user_id:
            if self._rule.narrowed and not call.user_id:
                self._rule.narrow(request, call.identity.user_id)
                call.user_id = call.identity.user_id
            elif call.user_id:
                await call.record(audit.DENIED, "NOT_FOUND")
                raise NotFound("user", call.user_id)
            else:
                self._check_open_to_scoped()
        self._gate.rules.check(request)

    def _check_open_to_scoped(self) -> None:
        """Raises PermissionDenied unless a call that names no user is open to a token that is limited to one."""
        if not self._rule.open_to_scoped:
            raise PermissionDenied(f"{self._name} concerns more than the one user that this token is limited to")

    def _finish(self, call: Call, context: Context, answer: Message) -> bytes:
        context.set_trailing_metadata(self._gate.metadata(call))
        logger.debug("answered", method=self._name, principal=call.identity.principal)
        return answer.SerializeToString()


class RefusalBudget:
    """How many refused credentials go on record in a minute: whoever has none must not be able to fill the disk."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._left, self._until = 0, 0.0

    def spend(self) -> bool:
        now = time.monotonic()
        if now >= self._until:
            self._left, self._until = self._per_minute, now + 60
        self._left -= 1
        return self._left >= 0
