"""The comments of the protos, which generated code leaves out."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

PROTOS = Path(__file__).parent.parent.parent / "protos"
PACKAGE = "nofx_grpc/v1"


def comments() -> dict[str, str]:
    """The comment of each element, by its name: "Models", "Models.GetModel", "Model.name"; '' for one without."""
    found: dict[str, str] = {}
    for file in _sources().file:
        places = {tuple(place.path): place.leading_comments.strip() for place in file.source_code_info.location}
        found |= {name: places.get(path, "") for path, name in _elements(file)}
    return found


def _sources() -> FileDescriptorSet:
    """The protos with their comments, which generated code leaves out."""
    files = sorted(str(path) for path in (PROTOS / PACKAGE).glob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(PROTOS)]
    command += ["--include_source_info", "--descriptor_set_out=/dev/stdout", *files]
    return FileDescriptorSet.FromString(subprocess.run(command, check=True, capture_output=True).stdout)


def _elements(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    """The path of each element that has to be explained, as SourceCodeInfo counts it, and its name."""
    for i, service in enumerate(file.service):
        yield (6, i), service.name
        yield from (((6, i, 2, j), f"{service.name}.{rpc.name}") for j, rpc in enumerate(service.method))
    for i, message in enumerate(file.message_type):
        assert not message.nested_type, f"{message.name}: nested messages are not looked at here"
        assert not message.enum_type, f"{message.name}: nested enums are not looked at here"
        yield (4, i), message.name
        yield from (((4, i, 2, j), f"{message.name}.{field.name}") for j, field in enumerate(message.field))
    for i, enum in enumerate(file.enum_type):
        yield (5, i), enum.name
        yield from (((5, i, 2, j), value.name) for j, value in enumerate(enum.value))
    yield from (((7, i), extension.name) for i, extension in enumerate(file.extension))
