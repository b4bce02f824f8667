"""The gRPC server: our services behind the gate, health for all, reflection for whoever has a valid credential."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Protocol

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection, reflection_pb2

from nofx_grpc.address import UNIX
from nofx_grpc.errors import StartError
from nofx_grpc.rpc.credentials import Context, credential_of
from nofx_grpc.rpc.health import Health
from nofx_grpc.rpc.interceptor import Gate
from nofx_grpc.rpc.listening import affordable_connections, check_free, socket_lock
from nofx_grpc.rpc.methods import handler
from nofx_grpc.rpc.requests import SMALL, RequestReader
from nofx_grpc.rpc.usage import InFlight
from nofx_grpc.v1 import common_pb2

_LOOK_SECONDS = 0.1
# What calls without work in them get to be read, at the end: of the health service, refused ones, streams.
_LAST_SECONDS = 1.0
_MEBIBYTE = 1024 * 1024
_MORE_TO_BE_REFUSED = 100
_MOST_PENDING = 10_000
_REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].methods[0]


class Service(Protocol):
    """A service: one coroutine method for each rpc of its descriptor, by the same name."""

    DESCRIPTOR: ServiceDescriptor


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where the server listens, and the limits of its connections.  Plaintext where there are no credentials."""

    listen: str
    credentials: grpc.ServerCredentials | None = None
    mtls_listen: str = ""  # none
    mtls_credentials: grpc.ServerCredentials | None = None
    request_bytes: int = 4 * _MEBIBYTE
    concurrent_rpcs: int = 1024
    keepalive_seconds: float = 60
    keepalive_timeout_seconds: float = 20
    keepalive_min_ping_seconds: float = 10
    max_connection_age_seconds: float | None = None
    connections: int = 2048  # at each address
    shared: bool = False  # with other workers of the parent that holds the address


class Server:
    """A gRPC server that can be started and drained.  Made and used on one event loop."""

    def __init__(self, gate: Gate, services: Sequence[Service], options: ServerOptions) -> None:
        self._options = options
        # Without gRPC's own limit of calls: it counts what nobody may make, too, and anyone could take all of them.
        listeners = 2 if options.mtls_listen else 1
        affordable = replace(options, connections=affordable_connections(options.connections, listeners))
        self._server = grpc.aio.server(options=channel_options(affordable))
        for service in services:
            self._server.add_generic_rpc_handlers((_handlers(gate, service),))
        names = [service.DESCRIPTOR.full_name for service in services]
        names += [health.SERVICE_NAME, reflection.SERVICE_NAME]
        self._health = Health(names)
        self._server.add_generic_rpc_handlers((self._health.handlers(),))
        self._server.add_generic_rpc_handlers((GuardedReflection(gate, names).handlers(),))
        self._lock = ExitStack()
        self._gate = gate
        self.mtls_address = ""  # where clients with certificates find it, once it has started

    async def start(self) -> str:
        """Listen and serve; the address that clients use.  Raises StartError if an address cannot be had."""
        options = self._options
        address = await self._listen(options.listen, options.credentials)
        if options.mtls_listen:
            self.mtls_address = await self._listen(options.mtls_listen, options.mtls_credentials)
        await self._server.start()
        return address

    async def _listen(self, listen: str, credentials: grpc.ServerCredentials | None) -> str:
        if not self._options.shared:
            self._lock.enter_context(socket_lock(listen))
            await check_free(listen)
        try:
            if credentials is None:
                port = self._server.add_insecure_port(listen)
            else:
                port = self._server.add_secure_port(listen, credentials)
        except RuntimeError:
            raise StartError(f"cannot listen on {listen}: it is taken, not this machine's, or not allowed") from None
        return listen if listen.startswith(UNIX) else f"{listen.rpartition(':')[0]}:{port}"

    async def stop(self, grace_seconds: float) -> None:
        """Say NOT_SERVING, take no new calls, end the streams, let the other calls in flight end within the grace.

        What has no work in it is not waited for as long: health, refusals and ended streams, which anybody may leave
        unread.
        """
        self._health.stop()
        self._gate.streams.stop()
        stopping = asyncio.ensure_future(self._server.stop(grace_seconds))
        while not stopping.done():
            # What gRPC had taken already is with the gate when this is over.
            await asyncio.wait([stopping], timeout=_LOOK_SECONDS)
            if not self._gate.unfinished:
                await self._server.stop(min(grace_seconds, _LAST_SECONDS))
        await stopping
        self._lock.close()


class GuardedReflection(reflection.aio.ReflectionServicer):  # type: ignore[misc]  # the package has no types
    """Reflection for callers who have shown who they are."""

    def __init__(self, gate: Gate, names: Iterable[str]) -> None:
        super().__init__(names)
        self._gate = gate
        self._reader = RequestReader(_REFLECTION, SMALL)

    def handlers(self) -> grpc.GenericRpcHandler:
        """Its one method, whose requests come as bytes, as those of all others."""
        serialize = reflection_pb2.ServerReflectionResponse.SerializeToString
        method: Any = grpc.stream_stream_rpc_method_handler(self.ServerReflectionInfo, None, serialize)
        return grpc.method_handlers_generic_handler(reflection.SERVICE_NAME, {_REFLECTION.name: method})

    async def ServerReflectionInfo(self, _stream: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
        name = f"/{reflection.SERVICE_NAME}/{_REFLECTION.name}"
        call = self._gate.call(name, context, reflection_pb2.ServerReflectionResponse)
        try:
            call.identity = await self._gate.identify(context)
            in_flight = self._gate.begin(call, context, stream=True)
            with self._gate.streams.opened(call, credential_of(context), common_pb2.PERMISSION_READ):
                async for response in super().ServerReflectionInfo(self._requests(context, in_flight), context):
                    await in_flight.sending(response.ByteSize())
                    yield response
                    in_flight.sent()
        except Exception as error:  # noqa: BLE001  # whatever it is, its text must not reach the client as it is
            await self._gate.fail(call, context, error)

    async def _requests(self, context: Context, in_flight: InFlight) -> AsyncIterator[Message]:
        """The requests.  Raises DeadlineExceeded where one is long in coming, and what is wrong with it."""
        while (raw := await self._gate.receive(context, in_flight.usage.reflecting)) is not grpc.aio.EOF:
            yield await self._reader.read(raw)


def _handlers(gate: Gate, service: Service) -> grpc.GenericRpcHandler:
    """The handlers of one service.  Raises AttributeError for an rpc that it does not implement."""
    methods = {m.name: handler(gate, m, getattr(service, m.name)) for m in service.DESCRIPTOR.methods}
    return grpc.method_handlers_generic_handler(service.DESCRIPTOR.full_name, methods)


def channel_options(options: ServerOptions) -> list[tuple[str, int]]:
    age = options.max_connection_age_seconds
    return [
        *([] if age is None else [("grpc.max_connection_age_ms", _milliseconds(age))]),
        # Above ours, so that a message that is too large is refused in our words; gRPC's own limit is only a backstop.
        ("grpc.max_receive_message_length", options.request_bytes + _MEBIBYTE),
        # What a connection may have in progress: all that is served, and some more to be refused in words.  Without a
        # limit a storm of calls that are reset at once fills the memory.
        ("grpc.max_concurrent_streams", options.concurrent_rpcs + _MORE_TO_BE_REFUSED),
        # Calls that wait for us to take them up.  Beyond the first number gRPC cancels some of them, whosever they are.
        ("grpc.server.max_pending_requests", _MOST_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", 2 * _MOST_PENDING),
        ("grpc.max_allowed_incoming_connections", options.connections),
        # The window of a stream stays small until its message is waited for; else each could hold megabytes unasked.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.server_handshake_timeout_ms", _milliseconds(options.keepalive_timeout_seconds)),
        # Two servers must not share a port without a word.  Workers do; their parent keeps everybody else out.
        ("grpc.so_reuseport", int(options.shared)),
        ("grpc.keepalive_time_ms", _milliseconds(options.keepalive_seconds)),
        ("grpc.keepalive_timeout_ms", _milliseconds(options.keepalive_timeout_seconds)),
        # Without this one gRPC waits for a minute, whatever the one above says.
        ("grpc.http2.ping_timeout_ms", _milliseconds(options.keepalive_timeout_seconds)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _milliseconds(options.keepalive_min_ping_seconds)),
    ]


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
