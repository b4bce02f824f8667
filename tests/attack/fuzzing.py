"""Sends inputs to a server, many at a time, and judges each answer."""

import asyncio
import random
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from tests.attack.inputs import Input, Inputs
from tests.support.observed import hands_out
from tests.support.rpcs import path_of

CHANNELS, AT_ONCE = 4, 48
_STREAM_SECONDS, _CALL_SECONDS = 0.25, 60.0
_MOST_FINDINGS = 10
# What would tell of our insides: no error is to hold it, unless the client itself has sent it.
INSIDES = re.compile(
    rb"Traceback|File \"|\.py\b|sqlalchemy|sqlite|psycopg|site-packages|<class '| object at 0x|SELECT |INSERT INTO|"
    rb"UPDATE \w+ SET|Errno|\w+Error\b|\bException\b",
)
CODE = grpc.StatusCode
# What gRPC's core says by itself, without our details: metadata or messages over its limits, a deadline of the client.
CORE = {CODE.RESOURCE_EXHAUSTED, CODE.DEADLINE_EXCEEDED, CODE.CANCELLED}
NEVER = {CODE.INTERNAL, CODE.UNKNOWN, CODE.DATA_LOSS}
# UNAVAILABLE is right only for who asks for a revision that is not there yet.
WAITED_FOR = "REVISION_NOT_REACHED"


@dataclass(frozen=True)
class Answer:
    """How a call ended: all that was said beside the message, our reason, and the message."""

    code: grpc.StatusCode
    said: bytes = b""
    reason: str = ""
    message: bytes = b""


@dataclass
class Fuzz:
    """A run: what is sent, how it was answered, and what was wrong with the answers."""

    address: str
    inputs: Inputs
    secrets: "re.Pattern[bytes]"
    seed: str
    counts: Counter[str] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.counts.total()

    async def send(self, first: int, last: int) -> None:
        """Send the inputs of these numbers; each is made of the seed, its number, and what answers held so far."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [grpc.aio.insecure_channel(self.address, options=options) for _ in range(CHANNELS)]
        numbers = iter(range(first, last))
        callers = [Caller(channels[n % CHANNELS]) for n in range(AT_ONCE)]
        await asyncio.gather(*(self._send_each(caller, numbers) for caller in callers))
        for channel in channels:
            await channel.close()

    async def _send_each(self, caller: "Caller", numbers: Any) -> None:
        for number in numbers:
            chance = random.Random(f"{self.seed}/{number}")  # noqa: S311 - a seed can be repeated
            made = self.inputs.make(chance)
            answer = await caller.call(made)
            self._judge(made, number, answer)
            if answer.message and number % 8 == 0:
                self.inputs.learn(GetMessageClass(made.method.output_type).FromString(answer.message))
            if len(self.findings) >= _MOST_FINDINGS:
                return

    def _judge(self, made: Input, number: int, answer: Answer) -> None:
        self.counts[answer.code.name] += 1
        self.methods[made.method.name] += 1
        self.kinds[made.kind] += 1
        if problem := self.wrong_with(answer, made):
            self.findings.append(f"input {number} of seed {self.seed}: {problem}")

    def wrong_with(self, answer: Answer, made: Input) -> str:
        """What is wrong with an answer; nothing if all is well."""
        problem = wrong_with(answer, made) or self._secret_in(answer, made)
        return problem and (
            f"{problem}, {path_of(made.method)} as {made.role}, {made.kind}, "
            f"{answer.code.name} {answer.said[:300]!r}, sent {b'|'.join(made.raw)[:600].hex()}"
        )

    def _secret_in(self, answer: Answer, made: Input) -> str:
        if self.secrets.search(answer.said):
            return "a secret in an error"
        if not hands_out(made.method) and self.secrets.search(answer.message):
            return "a secret in an answer"
        return ""

    def told(self, seconds: float) -> str:
        rows = [
            f"{self.total} inputs in {seconds:.0f} s to {len(self.methods)} rpcs, seed {self.seed}",
            *(f"  {name:22} {count}" for name, count in sorted(self.counts.items())),
            *(f"  {name:22} {count}" for name, count in sorted(self.kinds.items())),
        ]
        return "\n".join(rows)


class Caller:
    """Calls one rpc after the other over a channel it shares, with bytes."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel: Any = channel

    async def call(self, made: Input) -> Answer:
        path, metadata = path_of(made.method), made.metadata
        call: Any
        try:
            if made.method.client_streaming:
                call = self._channel.stream_unary(path)(iter(made.raw), metadata=metadata, timeout=_CALL_SECONDS)
                answer = await call
            elif made.method.server_streaming:
                call = self._channel.unary_stream(path)(made.raw[0], metadata=metadata, timeout=_CALL_SECONDS)
                answer = await _first(call)
            else:
                call = self._channel.unary_unary(path)(made.raw[0], metadata=metadata, timeout=_CALL_SECONDS)
                answer = await call
        except grpc.aio.AioRpcError as error:
            said = [(error.details() or "").encode()]
            said += [v if isinstance(v, bytes) else v.encode() for _, v in error.trailing_metadata() or ()]
            return Answer(error.code(), b"\n".join(said), _reason_of(error))
        return Answer(CODE.OK, message=answer)


async def _first(call: Any) -> bytes:
    """The first message of a stream, if there is one in a moment; then it is left."""
    try:
        first = await asyncio.wait_for(call.read(), _STREAM_SECONDS)
    except TimeoutError:
        first = b""
    call.cancel()
    return b"" if first is grpc.aio.EOF else first


def wrong_with(answer: Answer, made: Input) -> str:
    """What is wrong with an error, whatever was sent; nothing if all is well."""
    if answer.code in NEVER:
        return f"an unexplained {answer.code.name}"
    if answer.code == CODE.OK:
        return ""
    sent = b"|".join(made.raw) + repr(made.metadata).encode()
    if any(found not in sent for found in INSIDES.findall(answer.said)):
        return "an error that tells of the insides"
    if not answer.reason and answer.code not in CORE:
        return "an error without a reason"
    if answer.code == CODE.UNAVAILABLE and answer.reason != WAITED_FOR:
        return "not to be had"
    return ""


def _reason_of(error: grpc.aio.AioRpcError) -> str:
    """The reason of the ErrorInfo that came along, if it is ours."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info) and info.domain == "nofx-grpc":
                    return str(info.reason)
    return ""
