"""One method behind the gate: who calls, then the request, then the handler.

Every method is registered with gRPC as one that takes a stream of requests, which on the wire is the same: so its
handler begins when the headers are there, and nobody's message is waited for before it is known whose it is.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, aclosing, nullcontext
from typing import Any, cast

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from nofx_grpc.errors import DeadlineExceeded, InvalidArgument, NotFound, PermissionDenied, Violation
from nofx_grpc.rpc.credentials import Context, credential_of, end_user_of
from nofx_grpc.rpc.interceptor import Gate
from nofx_grpc.rpc.permissions import REVEALS, Rule
from nofx_grpc.rpc.requests import RequestReader
from nofx_grpc.rpc.usage import InFlight
from nofx_grpc.services.call import Call
from nofx_grpc.v1 import common_pb2

logger = structlog.get_logger(__name__)

_RESET_SECONDS = 0.1
_AT_ONCE_SECONDS = 0.01
_LONG_READ_SECONDS = 0.25
_STORED = "what was stored of the upload stays, and it is safe to begin anew"
_GUESSED_AT = "/nofx_grpc.v1.BetaCodes/ValidateBetaCode"  # it needs no LOGIN, but counts by end user like those that do

# What may take minutes, and is done in portions: whose it is is asked again meanwhile, as of a stream, and what ends
# between two of them is not half done.  Any other call that was begun goes on to its end.
_LONG = frozenset(
    {
        "/nofx_grpc.v1.Admin/ExportAuditHead",
        "/nofx_grpc.v1.Admin/ListKeys",
        "/nofx_grpc.v1.Admin/PruneAudit",
        "/nofx_grpc.v1.Admin/RetireKey",
        "/nofx_grpc.v1.Admin/VerifyAudit",
        "/nofx_grpc.v1.DecisionLogs/PruneDecisions",
    }
)


def handler(gate: Gate, method: MethodDescriptor, behavior: Callable[..., Any]) -> "grpc.RpcMethodHandler[Any, Any]":
    """The gRPC handler of one method of one of our services."""
    gated = GatedMethod(gate, method, behavior)
    if method.client_streaming:
        return grpc.stream_unary_rpc_method_handler(gated.upload)
    if method.server_streaming:
        return grpc.stream_stream_rpc_method_handler(gated.stream)
    return grpc.stream_unary_rpc_method_handler(gated.unary)


class GatedMethod:
    """One method: its rule, its message types, and the handler behind it."""

    def __init__(self, gate: Gate, method: MethodDescriptor, behavior: Callable[..., Any]) -> None:
        self._gate, self._behavior = gate, behavior
        self._name = f"/{method.containing_service.full_name}/{method.name}"
        self._rule = Rule.of(method)
        self._reader = RequestReader(method, gate.limits.request_bytes)
        self._answer_type = GetMessageClass(method.output_type)

    async def unary(self, _stream: AsyncIterator[bytes], context: Context) -> bytes:
        call = self._call(context)
        try:
            in_flight = await self._admit(call, context, stream=False)
            request = await self._receive(call, context, in_flight)
            with self._opened(call, context, has_end=True) if self._name in _LONG else nullcontext():
                answer: Message = await self._answer(request, call, context)
            return self._finish(call, context, answer, in_flight)
        except Exception as error:  # noqa: BLE001  # whatever it is, its text must not reach the client as it is
            await self._gate.fail(call, context, error)

    async def upload(self, _stream: AsyncIterator[bytes], context: Context) -> bytes:
        call = self._call(context)
        try:
            in_flight = await self._admit(call, context, stream=True)
            if call.identity.user_id:
                self._check_open_to_scoped()
            with self._opened(call, context, has_end=True):
                answer: Message = await self._behavior(self._requests(context, in_flight), call)
            return self._finish(call, context, answer, in_flight)
        except Exception as error:  # noqa: BLE001  # whatever it is, its text must not reach the client as it is
            await self._gate.fail(call, context, error)

    async def stream(self, _stream: AsyncIterator[bytes], context: Context) -> None:
        call = self._call(context)
        try:
            in_flight = await self._admit(call, context, stream=True)
            request = await self._receive(call, context, in_flight)
            # Before anything can end the stream: ended in its first answer, gRPC would send this twice and fail.
            await context.send_initial_metadata(())
            with self._opened(call, context):
                async with aclosing(self._behavior(request, call)) as answers:
                    async for answer in answers:
                        # An answer that many streams share comes as bytes.
                        raw = answer if isinstance(answer, bytes) else answer.SerializeToString()
                        await in_flight.sending(len(raw))
                        await context.write(raw)
                        in_flight.sent()
            context.set_trailing_metadata(self._gate.metadata(call))
        except Exception as error:  # noqa: BLE001  # whatever it is, its text must not reach the client as it is
            await self._gate.fail(call, context, error)

    def _opened(self, call: Call, context: Context, *, has_end: bool = False) -> AbstractContextManager[None]:
        return self._gate.streams.opened(call, credential_of(context), self._rule.permission, has_end=has_end)

    async def _receive(self, call: Call, context: Context, in_flight: InFlight) -> Message:
        """The request, checked.  Raises DeadlineExceeded, what `_identify` raises, and what is wrong with it."""
        began = time.monotonic()
        raw = await self._gate.receive(context, in_flight.usage.arriving)
        if time.monotonic() - began > _AT_ONCE_SECONDS:
            await self._identify(call, context)  # whoever kept us waiting may have lost the credential meanwhile
        if raw is grpc.aio.EOF:
            # Most likely the client has reset the call, and this task is cancelled in a moment.
            await asyncio.sleep(_RESET_SECONDS)
            raise InvalidArgument(Violation("request", "is missing: expected one message"))
        request = await self._reader.read(raw)
        await self._check(call, request)
        if self._rule.permission in REVEALS:
            in_flight.reveal()
        return request

    async def _answer(self, request: Message, call: Call, context: Context) -> Message:
        """What the handler answers.  Where it only reads, and that took long, whose it is is asked again."""
        began = time.monotonic()
        answer: Message = await self._behavior(request, call)
        if self._rule.changes_nothing and time.monotonic() - began > _LONG_READ_SECONDS:
            await self._identify(call, context)
        return answer

    async def _requests(self, context: Context, in_flight: InFlight) -> AsyncIterator[Message]:
        """Those of an upload.  Raises DeadlineExceeded where one is long in coming, and what is wrong with it."""
        while (raw := await self._gate.receive(context, in_flight.usage.uploading, left=_STORED)) is not grpc.aio.EOF:
            request = await self._reader.read(raw)
            self._gate.rules.check(request)
            yield request

    def _call(self, context: Context) -> Call:
        return self._gate.call(self._name, context, self._answer_type)

    async def _admit(self, call: Call, context: Context, *, stream: bool) -> InFlight:
        """Everything that can be said before the request is looked at; from here on the call counts."""
        await self._identify(call, context)
        if self._rule.permission == common_pb2.PERMISSION_LOGIN or self._name == _GUESSED_AT:
            call.end_user = end_user_of(context)
        remaining = cast("float | None", context.time_remaining())  # None without a deadline, whatever the stubs say
        if remaining is not None and remaining <= 0:
            raise DeadlineExceeded
        in_flight = self._gate.begin(call, context, stream=stream)
        if await self._gate.wait_for_revision(context):
            await self._identify(call, context)  # what was true before the wait need not be true any more
        return in_flight

    async def _identify(self, call: Call, context: Context) -> None:
        """Raises Unauthenticated, and PermissionDenied for a caller who may not call this method."""
        call.identity = await self._gate.identify(context)
        if self._rule.permission not in call.identity.permissions:
            name = common_pb2.Permission.Name(self._rule.permission).removeprefix("PERMISSION_")
            raise PermissionDenied(
                f"{self._name} needs the permission {name}, which the role {call.identity.role!r} does not have"
            )

    async def _check(self, call: Call, request: Message) -> None:
        """Scope first, rules second: a caller learns nothing about what it may not touch."""
        call.request = request
        call.user_id = self._rule.user_of(request)
        if call.identity.user_id and call.user_id != call.identity.user_id:
            if self._rule.narrowed and not call.user_id:
                self._rule.narrow(request, call.identity.user_id)
                call.user_id = call.identity.user_id
            elif call.user_id:
                await self._gate.record_denial(call, "NOT_FOUND")
                raise NotFound("user", call.user_id)
            else:
                self._check_open_to_scoped()
        self._gate.rules.check(request)

    def _check_open_to_scoped(self) -> None:
        """Raises PermissionDenied unless a call that names no user is open to a token that is limited to one."""
        if not self._rule.open_to_scoped:
            raise PermissionDenied(f"{self._name} concerns more than the one user that this token is limited to")

    def _finish(self, call: Call, context: Context, answer: Message, in_flight: InFlight) -> bytes:
        """The answer as bytes.  Raises RateLimited."""
        if self._rule.changes_nothing:
            in_flight.check_unread()  # many that began together are ready one after the other; what is done is done
        context.set_trailing_metadata(self._gate.metadata(call))
        logger.debug("answered", method=self._name, principal=call.identity.principal)
        raw = answer.SerializeToString()
        in_flight.answered(len(raw))
        return raw
