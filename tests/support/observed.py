"""Calls that are watched: what was said in answer to them, and the secrets that they carried."""

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.support.processes import ServerProcess
from tests.support.rpcs import METHODS, path_of, permission_of

ROLES = ("admin", "gateway", "engine", "viewer")
# Fields of requests that must name something for the call to get anywhere.
NAMES = {
    "user_id": "default",
    "id": "leaky",
    "model_id": "leaky",
    "exchange_id": "leaky",
    "trader_id": "leaky",
    "key": "jwt_secret",
}


@dataclass
class Observed:
    """The secrets that went in or came out, and what was said besides."""

    secrets: set[str] = field(default_factory=set)
    codes: set[str] = field(default_factory=set)  # of six digits, which the bytes of a database may hold by chance
    said: dict[str, bytes] = field(default_factory=dict)  # where -> what

    def say(self, where: str, content: bytes) -> None:
        self.said[f"{where} ({len(self.said)})"] = content


class Caller:
    """Calls rpcs of a server, and keeps what must not hold a secret: errors, metadata, answers that reveal nothing."""

    def __init__(self, server: ServerProcess, observed: Observed) -> None:
        self._server, self.observed = server, observed
        self._channel: Any = server.channel()

    async def __call__(self, name: str, request: Message, role: str = "admin", **metadata: str) -> Any:
        """The answer, or None for an error."""
        raw = await self.raw(METHODS[name], request.SerializeToString(), role, **metadata)
        return None if raw is None else GetMessageClass(METHODS[name].output_type).FromString(raw)

    async def raw(self, method: MethodDescriptor, raw: bytes, role: str = "admin", **metadata: str) -> bytes | None:
        send = {"authorization": f"Bearer {self._server.token(role)}"} | metadata
        call: Any
        if method.client_streaming:
            call = self._channel.stream_unary(path_of(method))(iter([raw]), metadata=tuple(send.items()))
        elif method.server_streaming:
            call = self._channel.unary_stream(path_of(method))(raw, metadata=tuple(send.items()))
        else:
            call = self._channel.unary_unary(path_of(method))(raw, metadata=tuple(send.items()))
        try:
            answer: bytes | None = await (beginning_of(call) if method.server_streaming else call)
        except grpc.aio.AioRpcError as error:
            self.observed.say(f"the error of {method.name}", (error.details() or "").encode())
            answer = None
        for key, value in (*await call.initial_metadata(), *await call.trailing_metadata()):
            content = value if isinstance(value, bytes) else value.encode()
            self.observed.say(f"metadata {key} of {method.name}", content)
        if answer is not None and not hands_out(method):
            self.observed.say(f"the answer of {method.name}", answer)
        return answer

    async def close(self) -> None:
        await self._channel.close()


async def beginning_of(call: Any) -> bytes:
    """What a stream says until it is silent for a moment; then it is left."""
    said = b""
    with suppress(TimeoutError):
        while (response := await asyncio.wait_for(call.read(), 0.3)) is not grpc.aio.EOF:
            said += response
    call.cancel()
    return said


def hands_out(method: MethodDescriptor) -> bool:
    """Whether an answer may hold secrets: by its permission, or because it is the one time that a new one is shown."""
    shown_once = {"RegisterUser", "ResetOtp", "Authenticate", "CreateToken"}
    return permission_of(method).startswith("REVEAL") or method.name in shown_once


def fill(message: Message, path: str, secrets: set[str]) -> None:
    """Put a secret of its own into every field that is declared to hold one, and names into the others."""
    for descriptor in message.DESCRIPTOR.fields:
        here = f"{path}.{descriptor.name}"
        if descriptor.GetOptions().debug_redact:
            secret = f"leak/{here}+{len(secrets):04}"
            secrets.add(secret)
            content = (
                json.dumps({"jwt_secret": secret}).encode() if descriptor.type == FieldDescriptor.TYPE_BYTES else secret
            )
            setattr(message, descriptor.name, content)
        elif descriptor.message_type is not None and descriptor.message_type.file.package == "nofx_grpc.v1":
            below = getattr(message, descriptor.name)
            fill(below.add() if descriptor.is_repeated else below, here, secrets)
        elif descriptor.name in NAMES:
            setattr(message, descriptor.name, NAMES[descriptor.name])
