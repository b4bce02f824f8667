"""What somebody sends makes no line of the log: not in a field, not in a header, not below gRPC."""

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.attack.scene import Scene, scene
from tests.attack.texts import LOG, TERMINAL
from tests.attack.wire import GOAWAY, Wire, frame
from tests.support.rpcs import METHODS, path_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
FORGED = b'x\n{"event":"forged","level":"info"}\n\x1b[2J'


# What structlog writes for people: a line begins with a time, or is of a traceback.
FOR_PEOPLE = re.compile(r"\d{4}-\d\d-\d\d[T ][0-9:.]+Z? \[\w+ *\] |    ")


@pytest.fixture(params=["json", "console"])
def format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place(tmp_path: Path, format: str) -> Iterator[Scene]:
    with scene(tmp_path, log_level="debug", log_format=format) as made:
        yield made


def lines_of(place: Scene, format: str) -> list[str]:
    """The lines of the log, each of which is one of ours."""
    assert place.server.stop() == 0
    lines = place.server.log.read_text().split("\n")[:-1]
    for line in lines:
        assert line.isprintable(), ascii(line)
        if format == "json":
            assert json.loads(line)["event"] != "forged"
        else:
            assert FOR_PEOPLE.match(line), line
    return lines


def filled(message: Message, text: str, depth: int = 3) -> Message:
    """The message with this text in every field that takes one."""
    for field in message.DESCRIPTOR.fields if depth else ():
        below = getattr(message, field.name)
        if field.message_type is not None:
            filled(below.add() if field.is_repeated else below, text, depth - 1).SetInParent()
        elif field.type == FieldDescriptor.TYPE_STRING and not field.containing_oneof:
            if field.is_repeated:
                below.append(text)
            else:
                setattr(message, field.name, text)
    return message


def send(channel: Any, name: str, raw: bytes, metadata: tuple[tuple[str, str | bytes], ...]) -> str:
    """The code of the answer."""
    method = METHODS[name]
    try:
        if method.client_streaming:
            channel.stream_unary(path_of(method))(iter([raw]), metadata=metadata, timeout=20)
        elif method.server_streaming:
            call = channel.unary_stream(path_of(method))(raw, metadata=metadata, timeout=20)
            next(iter(call), None)
            call.cancel()
        else:
            channel.unary_unary(path_of(method))(raw, metadata=metadata, timeout=20)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def test_no_field_of_any_rpc_writes_a_line(place: Scene, format: str) -> None:
    with grpc.insecure_channel(place.server.address) as channel:
        for name in METHODS:
            for text in (*LOG, *TERMINAL):
                raw = filled(GetMessageClass(METHODS[name].input_type)(), text).SerializeToString()
                send(channel, name, raw, place.server.authorization())
    assert len(lines_of(place, format)) > len(METHODS) * 10, "nearly each call is a line"


def test_no_header_of_a_call_writes_a_line(place: Scene, format: str) -> None:
    """By gRPC's own rules some values never arrive; by hand they do, with line ends and all."""
    token = place.server.token("admin")
    for text in ("x level=error event=forged", '","event":"forged","x":"', "{0.__class__}%s${jndi:ldap://x}"):
        options = [("grpc.primary_user_agent", text)]
        named = [(key, text) for key in ("nofx-end-user-address", "nofx-min-revision", "traceparent", "x")]
        with grpc.insecure_channel(place.server.address, options) as channel:
            for header in (("authorization", f"Bearer {text}"), ("authorization", text), *named):
                metadata = (header, *(() if header[0] == "authorization" else place.server.authorization()))
                send(channel, "Users.Authenticate", b"", metadata)
            send(channel, "Users.ListUsers", b"", (*place.server.authorization(), ("x-bin", FORGED)))
    path = path_of(METHODS["Users.ListUsers"])
    for hostile in (FORGED.decode(), "x\r\nforged: 1", "\x1b]0;forged\x07"):
        for key in ("user-agent", "authorization", "nofx-end-user-address", "grpc-timeout", "content-type", ":path"):
            with Wire(place.server.address) as one:
                one.begin(path, "" if key == "authorization" else token, [(key, hostile)])
                one.answer(0.2)
    lines_of(place, format)


def test_a_goodbye_of_the_transport_writes_nothing_into_the_log(place: Scene, format: str) -> None:
    """gRPC's own library would copy the text of a GOAWAY into the log, from callers without any credential."""
    with Wire(place.server.address) as one:
        one.send(frame(GOAWAY, 0, 0, struct.pack(">II", 0, 11) + FORGED))
        one.answer()
    assert "forged" not in "".join(lines_of(place, format))
