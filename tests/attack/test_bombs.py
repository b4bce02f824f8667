"""Messages that are small on the wire and large once they are unpacked: gzip makes a thousand bytes of one."""

import asyncio
import struct
import zlib
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.attack.good_client import good_client
from tests.attack.scene import Scene, scene
from tests.attack.wire import DATA, END_HEADERS, END_STREAM, HEADERS, Wire, frame

GET, CHECK = "/nofx_grpc.v1.Exchanges/GetExchange", "/grpc.health.v1.Health/Check"
WHO = {"health": (CHECK, ""), "viewer": (GET, "viewer"), "nobody": (GET, "")}
MIB = 1024 * 1024
MOST_GROWTH_KIB = 320 * 1024
CALLS = 30  # of each of some connections: fewer than one connection of health may have
CONNECTIONS = 8

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("bombed")) as made:
        yield made


def bomb(size: int) -> bytes:
    """A compressed message of zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    raw = b"".join(packer.compress(bytes(MIB)) for _ in range(size // MIB)) + packer.flush()
    return struct.pack(">BI", 1, len(raw)) + raw


def throw(one: Wire, path: str, token: str, message: bytes) -> None:
    stream, one._next = one._next, one._next + 2
    one.send(frame(HEADERS, END_HEADERS, stream, one.block(path, token, [("grpc-encoding", "gzip")])))
    parts = [message[start : start + 16_000] for start in range(0, len(message), 16_000)]
    for part in parts:
        one.send(frame(DATA, END_STREAM if part is parts[-1] else 0, stream, part))


@pytest.mark.parametrize(("path", "role"), WHO.values(), ids=WHO)
async def test_bombs(place: Scene, path: str, role: str) -> None:
    """What is too large unpacked is refused before it is, and nothing is unpacked for nobody; others are served."""
    before, token = place.resident_kib(), place.server.token(role).strip() if role else ""
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(place.server.address)) for _ in range(CONNECTIONS)]
        async with good_client(place) as client:
            throw(wires[0], path, token, bomb(40 * MIB))
            said = await asyncio.to_thread(wires[0].answer, 0.5)
            assert (b"Decompressed message larger than max" in said) == (path == CHECK or bool(role))
            allowed = bomb(5 * MIB)  # by gRPC, and refused by us
            for wire in wires * CALLS:
                throw(wire, path, token, allowed)
            assert await asyncio.to_thread(wires[-1].answer, 0.5)
            assert place.resident_kib() - before < MOST_GROWTH_KIB
    assert client.served(), client.outcomes
    assert [line for line in place.log_lines() if line.get("level") in {"error", "critical"}] == []
