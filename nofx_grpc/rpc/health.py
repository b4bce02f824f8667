"""The standard health service, open to all: one state for the whole server."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc

# Quoted: generic in the stubs only.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

# Who watches needs no credential, and each watch takes one of the calls that may be in progress.
MOST_WATCHES = 100


class Health(health_pb2_grpc.HealthServicer):
    """SERVING until `stop`; the watches are told and end then, so that they do not hold up the server's end."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = {"", *services}
        self._stopping = asyncio.Event()
        self._watches = 0

    def stop(self) -> None:
        self._stopping.set()

    async def Check(self, request: pb.HealthCheckRequest, context: Context) -> pb.HealthCheckResponse:
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return self._answer(request.service)

    async def Watch(self, request: pb.HealthCheckRequest, context: Context) -> AsyncIterator[pb.HealthCheckResponse]:
        if self._watches >= MOST_WATCHES:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"there are {MOST_WATCHES} watches already")
        self._watches += 1
        try:
            if not self._stopping.is_set():
                yield self._answer(request.service)
                await self._stopping.wait()
            yield self._answer(request.service)
        finally:
            self._watches -= 1

    def _answer(self, service: str) -> pb.HealthCheckResponse:
        if service not in self._services:
            return pb.HealthCheckResponse(status=pb.HealthCheckResponse.SERVICE_UNKNOWN)
        stopping = self._stopping.is_set()
        status = pb.HealthCheckResponse.NOT_SERVING if stopping else pb.HealthCheckResponse.SERVING
        return pb.HealthCheckResponse(status=status)
