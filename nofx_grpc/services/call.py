"""One call: who makes it, and the only ways it has to the store.

`read` and `scan` read, `write` changes, `reveal` reads what holds secrets.  What every call owes (the audit record,
the request id, the revision that it was answered at) is done here, so that no handler can forget it.
"""

import hashlib
import hmac
from asyncio import Semaphore
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Concatenate, ParamSpec, TypeVar, cast

from google.protobuf.message import Message

from nofx_grpc.crypto.envelope import Envelope
from nofx_grpc.errors import AuditUnavailable, NofxError, PermissionDenied, RequestIdReused, Unavailable
from nofx_grpc.redaction import escaped
from nofx_grpc.store import audit, request_ids
from nofx_grpc.store.audit import AuditRecord
from nofx_grpc.store.engine import Connection, Database
from nofx_grpc.v1 import common_pb2

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls: a principal, its role, what it may do, the one user that it is limited to, and the token that it shows
    (both empty for none).
    """

    principal: str
    role: str
    permissions: frozenset[common_pb2.Permission.ValueType]
    user_id: str = ""
    token_id: str = ""

    def may(self, permission: common_pb2.Permission.ValueType) -> bool:
        return permission in self.permissions


@dataclass(slots=True)
class Call:
    """The context of one call, made by the interceptor and handed to the handler."""

    method: str
    identity: Identity
    peer: str
    db: Database
    envelope: Envelope
    answer_type: type[Message]
    request: Message | None = field(default=None, repr=False)
    user_id: str = ""  # the user that the request names
    end_user: str = ""  # the address of whoever wants to log in, where the caller tells it
    repeat_within: timedelta | None = None  # how long a repeat gets the first answer, if not as long as it is kept
    turn: Semaphore | None = field(default=None, repr=False)  # of those of its principal that scan
    revision: int = field(default=0, init=False)  # what `nofx-revision` tells the client

    async def read(
        self, convert: Callable[[R], M], fn: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> M:
        """Answer from a few rows read by key."""
        value, self.revision = await self.db.read(fn, *args, **kwargs)
        return convert(value)

    async def get(
        self, convert: Callable[[R], M], fn: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> M:
        """As `read`, for what changes with the store's revision only: see `Database.get`."""
        value, self.revision = await self.db.get(fn, *args, **kwargs)
        return convert(value)

    async def scan(
        self, convert: Callable[[R], M], fn: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> M:
        """Answer from many rows; reading and converting happen off the event loop, a few at a time for a principal."""
        async with self.turn or nullcontext():
            value, self.revision = await self.db.scan(lambda connection: convert(fn(connection, *args, **kwargs)))
        return value

    async def write(
        self, convert: Callable[[R], M], fn: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> M:
        """Change something, with its audit record in the same transaction; a repeated request id gets its first answer.

        Raises what `fn` raises, and RequestIdReused.
        """

        def transact(connection: Connection) -> M:
            return self._once(connection, lambda: convert(fn(connection, *args, **kwargs)))

        answer, self.revision = await self.db.write(transact)
        return answer

    async def reveal(
        self, convert: Callable[[R], M], fn: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> M:
        """Answer with secrets, once the record of it is durable.

        Raises AuditUnavailable if that record could not be written, and what `fn` and `convert` raise, which is on the
        record too: whoever tries ids is seen.
        """
        try:
            value, self.revision = await self.db.get(fn, *args, **kwargs)
            answer = convert(value)
        except Unavailable:
            raise  # nothing was read, and nothing could be written either
        except NofxError as error:
            await self.record(audit.FAILED, error.reason)
            raise
        await self.record(audit.OK)
        return answer

    async def record(self, outcome: str, reason: str = "", *, principal: str = "", resources: str = "") -> None:
        """Make an audit record of this call durable by itself.  Raises AuditUnavailable."""
        await self.append(self.audit_record(outcome, reason, principal=principal, resources=resources))

    async def append(self, record: AuditRecord) -> None:
        """Make a record durable by itself.  Raises AuditUnavailable."""
        try:
            await self.db.append(audit.append, record)
        except AuditUnavailable:
            raise
        except Exception as error:
            raise AuditUnavailable from error

    def audit_record(self, outcome: str, reason: str = "", *, principal: str = "", resources: str = "") -> AuditRecord:
        """The record of this call; in a write, `audit.append` adds what the write has touched.

        What the caller wrote has not been checked yet where it is a denial: of each text as much as an id may have.
        """
        return AuditRecord(
            principal=principal or self.identity.principal,
            role=self.identity.role,
            method=self.method,
            peer=self.peer,
            user_id=_bounded(self.user_id),
            resources=resources or _bounded(_named_resource(self.request)),
            outcome=outcome,
            reason=reason,
            revision=self.revision or None,
            request_id=_bounded(self.request_id),
        )

    @property
    def caller(self) -> str:
        """Where tries at logging in come from: the principal, and its end user's address or else its own."""
        return f"{self.identity.principal} {self.end_user or self.peer.rpartition(':')[0]}"

    @property
    def request_id(self) -> str:
        return str(getattr(self.request, "request_id", ""))

    def require(self, permission: common_pb2.Permission.ValueType, what: str) -> None:
        """Raises PermissionDenied, saying `what` was wanted, unless the caller has the permission."""
        if not self.identity.may(permission):
            name = common_pb2.Permission.Name(permission).removeprefix("PERMISSION_")
            raise PermissionDenied(f"{what} needs the permission {name}")

    def _once(self, connection: Connection, work: Callable[[], M]) -> M:
        """Do `work` and record it, or return the answer kept for this request id.  Runs in the write's savepoint."""
        if not self.request_id or self.request is None:
            answer = work()
            audit.append(connection, self.audit_record(audit.OK))
            return answer
        context = ("request_ids", self.identity.principal, self.request_id)
        digest = hashlib.sha256(self.method.encode() + self.request.SerializeToString(deterministic=True)).digest()
        kept = request_ids.find(connection, self.identity.principal, self.request_id, self.repeat_within)
        if kept is not None:
            return cast("M", self._repeat(connection, self.envelope.open_bytes(kept, context), digest))
        answer = work()
        # The digest is sealed too: a request may hold a password, which could be guessed from it.
        sealed = self.envelope.seal_bytes(digest + answer.SerializeToString(), context)
        request_ids.remember(connection, self.identity.principal, self.request_id, method=self.method, answer=sealed)
        audit.append(connection, self.audit_record(audit.OK))
        return answer

    def _repeat(self, connection: Connection, kept: bytes, digest: bytes) -> Message:
        """The first answer to this request.  Raises RequestIdReused if the id was another request's."""
        if not hmac.compare_digest(kept[: len(digest)], digest):
            raise RequestIdReused
        audit.append(connection, self.audit_record(audit.OK, "REPEATED"))
        return self.answer_type.FromString(kept[len(digest) :])


_MOST_CHARACTERS = 512  # as many as an id may have
_NAMES = ("trader_id", "exchange_id", "model_id", "id", "key", "email")
_NAMES_INSIDE = ("id", "email")


def _named_resource(request: Message | None) -> str:
    """What a request names, for the record of a reveal or a denial; only ids and keys, never a secret."""
    if request is None:
        return ""
    if found := _first_text(request, _NAMES):
        return found
    inside = (value for _, value in request.ListFields() if isinstance(value, Message))
    return next((found for resource in inside if (found := _first_text(resource, _NAMES_INSIDE))), "")


def _bounded(text: str) -> str:
    """A text as it may stand in a record: of some length, and without what could steer a terminal."""
    return escaped(text[:_MOST_CHARACTERS])[:_MOST_CHARACTERS]


def _first_text(message: Message, names: tuple[str, ...]) -> str:
    return next((str(value) for name in names if (value := getattr(message, name, ""))), "")
