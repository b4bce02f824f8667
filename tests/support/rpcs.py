"""Every rpc of every service, from the protos, and how to call one with bytes."""

from importlib import import_module
from pathlib import Path

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from nofx_grpc.rpc.requests import SMALL
from nofx_grpc.v1 import common_pb2
from tests.support.service import Client

_PROTOS = Path(__file__).parent.parent.parent / "protos" / "nofx_grpc" / "v1"

SERVICES: list[ServiceDescriptor] = [
    service
    for path in sorted(_PROTOS.glob("*.proto"))
    for service in import_module(f"nofx_grpc.v1.{path.stem}_pb2").DESCRIPTOR.services_by_name.values()
]
METHODS: dict[str, MethodDescriptor] = {
    f"{service.name}.{method.name}": method for service in SERVICES for method in service.methods
}


def path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def permission_of(method: MethodDescriptor) -> str:
    value = method.GetOptions().Extensions[common_pb2.permission]
    return common_pb2.Permission.Name(value).removeprefix("PERMISSION_")


def limit_of(method: MethodDescriptor) -> int:
    """How many bytes a request of an rpc may have, if the server's limit is not lower."""
    return method.GetOptions().Extensions[common_pb2.max_request_bytes] or SMALL


def request_about(method: MethodDescriptor, user_id: str) -> Message:
    """An otherwise empty request that names a user where the rpc takes one."""
    request = GetMessageClass(method.input_type)()
    *parents, field = method.GetOptions().Extensions[common_pb2.user_field].split(".")
    owner = request
    for parent in parents:
        owner = getattr(owner, parent)
    if field:
        setattr(owner, field, user_id)
    return request


async def call_raw(client: Client, method: MethodDescriptor, raw: bytes) -> bytes:
    """Call an rpc with bytes and return the bytes of its answer, of a stream those of the first."""
    channel, path = client.channel, path_of(method)
    if method.client_streaming:
        send = channel.stream_unary(path, request_serializer=bytes, response_deserializer=bytes)
        return await send(iter([raw]))
    if method.server_streaming:
        call = channel.unary_stream(path, request_serializer=bytes, response_deserializer=bytes)(raw)
        first = await call.read()
        call.cancel()
        assert isinstance(first, bytes), "the stream has ended without an answer"
        return first
    return await channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)(raw)
