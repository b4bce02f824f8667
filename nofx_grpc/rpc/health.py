"""The standard health service, open to all: one state for the whole server."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health
from grpc_health.v1 import health_pb2 as pb

# Quoted: generic in the stubs only.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

# Who asks needs no credential, and each call takes memory until its answers are read.  A limit of all would let a
# stranger take it: so where there are many of all, each connection has one, and there are no more of these than
# connections.  A client that does nothing wrong has one or two.
MOST_CHECKS, MANY_CHECKS = 32, 1024  # of a connection, of all
MOST_WATCHES, MANY_WATCHES = 100, 100
# What has come of a question takes memory too: it is not waited for longer than this, and where many are waited for
# already hardly at all: that of a client that does nothing wrong comes with its headers.
ASKED_WITHIN_SECONDS = 2.0
ASKED_AT_ONCE_SECONDS = 0.25
MOST_ASKING = 16
MOST_ASKED_BYTES = 1024  # the name of a service is shorter; millions of empty ones would take long to parse


class Held:
    """Calls that gRPC is not done with, of each connection and of all."""

    def __init__(self) -> None:
        self._of: Counter[str] = Counter()
        self.total = 0

    async def begin(self, context: Context, most: int, many: int, what: str) -> None:
        """Count a call until it ends; refuse it where its connection has `most`, or one while all have `many`."""
        peer = context.peer()
        if self._of[peer] >= (most := most if self.total < many else 1):
            text = f"this connection has {most} {what} already"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        self._of[peer] += 1
        self.total += 1
        context.add_done_callback(lambda _: self._end(peer))  # type: ignore[arg-type]  # to the stubs no function fits

    def _end(self, peer: str) -> None:
        self.total -= 1
        self._of[peer] -= 1
        if not self._of[peer]:
            del self._of[peer]


class Health:
    """SERVING until `stop`; the watches are told and end then, so that they do not hold up the server's end."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = {"", *services}
        self._stopping = asyncio.Event()
        self.checks, self.watches = Held(), Held()
        self._asking = 0

    def stop(self) -> None:
        self._stopping.set()

    def handlers(self) -> grpc.GenericRpcHandler:
        """Both methods, registered as those of `methods`: as if they took a stream of requests."""
        serialize = pb.HealthCheckResponse.SerializeToString
        return grpc.method_handlers_generic_handler(
            health.SERVICE_NAME,
            {
                "Check": grpc.stream_unary_rpc_method_handler(self.check, None, serialize),
                "Watch": grpc.stream_stream_rpc_method_handler(self.watch, None, serialize),
            },
        )

    async def check(self, _stream: AsyncIterator[bytes], context: Context) -> pb.HealthCheckResponse:
        await self.checks.begin(context, MOST_CHECKS, MANY_CHECKS, "answers to read")
        name = await self._asked(context)
        if name not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return self._answer(name)

    async def watch(self, _stream: AsyncIterator[bytes], context: Context) -> None:
        await self.watches.begin(context, MOST_WATCHES, MANY_WATCHES, "watches")
        name = await self._asked(context)
        if not self._stopping.is_set():
            await context.write(self._answer(name))
            await self._stopping.wait()
        await context.write(self._answer(name))

    async def _asked(self, context: Context) -> str:
        """The service that is asked for; '' where the client ends the call without a request."""
        seconds = ASKED_WITHIN_SECONDS if self._asking < MOST_ASKING else ASKED_AT_ONCE_SECONDS
        self._asking += 1
        try:
            async with asyncio.timeout(seconds):
                raw = await context.read()
            if raw is not grpc.aio.EOF and len(raw) > MOST_ASKED_BYTES:
                text = f"the request has {len(raw)} bytes; at most {MOST_ASKED_BYTES} are accepted"
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
            return "" if raw is grpc.aio.EOF else pb.HealthCheckRequest.FromString(raw).service
        except TimeoutError:
            text = f"the request did not arrive within {seconds:g} seconds"
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, text)
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the request is no grpc.health.v1.HealthCheckRequest")
        finally:
            self._asking -= 1

    def _answer(self, service: str) -> pb.HealthCheckResponse:
        if service not in self._services:
            return pb.HealthCheckResponse(status=pb.HealthCheckResponse.SERVICE_UNKNOWN)
        stopping = self._stopping.is_set()
        status = pb.HealthCheckResponse.NOT_SERVING if stopping else pb.HealthCheckResponse.SERVING
        return pb.HealthCheckResponse(status=status)
