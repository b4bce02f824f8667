"""Floods over raw HTTP/2: the server stays up, keeps its memory bounded, and serves whoever does nothing wrong.

ATTACK_FLOOD says how much of each there is, in calls or connections; `make attack` takes twenty times as much.
"""

import asyncio
import os
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import grpc
import pytest

from nofx_grpc.v1 import exchanges_pb2_grpc, watch_pb2
from tests.attack.good_client import BINANCE, good_client
from tests.attack.scene import Scene, scene
from tests.attack.uploads import Uploads
from tests.attack.wire import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW,
    PING,
    RESET,
    SETTINGS,
    WINDOW,
    Wire,
    frame,
    message,
    setting,
)

FLOOD = int(os.environ.get("ATTACK_FLOOD", "200"))
PATH, WATCH, CHECK = "/nofx_grpc.v1.Exchanges/GetExchange", "/nofx_grpc.v1.Watch/Watch", "/grpc.health.v1.Health/Check"
REFLECT = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
REQUEST = BINANCE.SerializeToString()
CANCEL = struct.pack(">I", 8)
NOTHING_READ = setting(INITIAL_WINDOW, 0)
MOST_GROWTH_KIB = 160 * 1024
# Far below what a flood makes, as those of a server are below what an attacker makes.
MOST_CONNECTIONS = 300
LARGEST, CALLS_OF_PRINCIPAL, AT_ONCE = 2_000_000, 60, 32  # gRPC takes a mebibyte more than we do
SECONDS = 4  # that a request has to arrive
FEW = {
    "max_concurrent_rpcs": "80",
    "max_request_bytes": "1048576",
    "max_request_seconds": str(SECONDS),
    "max_connections": str(MOST_CONNECTIONS),
}

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120 + FLOOD // 20)]


@pytest.fixture(scope="module")
def flooded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One server for all floods, one after the other: what one of them leaves behind is felt by the next."""
    with scene(tmp_path_factory.mktemp("flooded"), **FEW) as made:
        yield made
        assert made.server.stop() == 0


@pytest.fixture
def place(flooded: Scene) -> Iterator[Scene]:
    """The server, which has to be up and of about the same size afterwards, with no error in its log."""
    before = flooded.resident_kib()
    yield flooded
    assert flooded.alive()
    assert flooded.resident_kib() - before < MOST_GROWTH_KIB
    assert [line for line in flooded.log_lines() if line.get("level") in {"error", "critical"}] == []


# ---- calls that are never over


async def test_answers_that_are_never_read(place: Scene) -> None:
    """One token is at its limit, and no other; when its connection is gone it has all its calls again."""
    token = place.server.token("viewer").strip()
    with Wire(place.server.address, NOTHING_READ) as one:
        for _ in range(FLOOD):
            one.call(PATH, REQUEST, token)
        one.answer()
        async with good_client(place) as client:
            assert "calls_in_flight" in await refused(place, "viewer")
            await asyncio.sleep(0.5)
        assert client.served(), client.outcomes
    await served_again(place, "viewer")


@pytest.mark.parametrize("path", [PATH, WATCH, CHECK])
async def test_without_a_credential_nothing_is_held(place: Scene, path: str) -> None:
    """Neither by messages that never end, nor by answers that are never read, on many connections."""
    for settings in (b"", NOTHING_READ):
        with ExitStack() as stack:
            for _ in range(10):
                one = stack.enter_context(Wire(place.server.address, settings))
                for _ in range(FLOOD // 10):
                    half_a_message(one, path)
                one.send(b"".join(frame(PING, 0, 0, bytes(8)) for _ in range(2)))
            async with good_client(place) as client:
                await asyncio.sleep(0.2)
            assert client.served(), client.outcomes


async def test_messages_that_never_end(place: Scene) -> None:
    """With a token they count as its calls, and are over in the time that a request has."""
    with Wire(place.server.address) as one:
        for _ in range(FLOOD):
            half_a_message(one, PATH, place.server.token("viewer").strip())
        one.answer()
        assert "calls_in_flight" in await refused(place, "viewer")
        async with good_client(place) as client:
            await served_again(place, "viewer")
        assert client.served(), client.outcomes
        assert b"did not arrive within 4 seconds" in one.answer()


async def test_streams_that_are_never_read(place: Scene) -> None:
    token, request = place.server.token("viewer").strip(), watch_pb2.WatchRequest(send_initial_state=True)
    with Wire(place.server.address, NOTHING_READ) as one:
        for _ in range(FLOOD):
            one.call(WATCH, request.SerializeToString(), token)
        async with good_client(place) as client, good_client(place, "viewer") as same:
            await asyncio.sleep(0.5)
        assert client.served() and same.served(), "streams leave room for calls"


@pytest.mark.parametrize(
    ("path", "role", "most"),
    [(PATH, "", 8), (PATH, "viewer", AT_ONCE + 8), (REFLECT, "viewer", AT_ONCE), (CHECK, "", AT_ONCE + 8)],
    ids=["nobody", "viewer", "reflection", "health"],
)
async def test_large_messages_that_stop_short_of_their_end(place: Scene, path: str, role: str, most: int) -> None:
    """Nothing is taken without a credential; with one, or by the health service, so little at a time that it fits."""
    before, token = place.resident_kib(), place.server.token(role).strip() if role else ""
    with closing(Uploads(place.server.address, path, token)) as uploads:
        async with good_client(place) as client:
            began = time.monotonic()
            await asyncio.to_thread(uploads.begin, CALLS_OF_PRINCIPAL, LARGEST)
            await asyncio.to_thread(uploads.send, 2.5)
            grown, took = place.resident_kib() - before, time.monotonic() - began
    assert client.served(), client.outcomes
    # On a busy machine it takes so long that some have had their time, and others come in their place.
    assert uploads.sent < most * LARGEST * (1 + took // SECONDS)
    assert grown < MOST_GROWTH_KIB


# ---- too much at once


@pytest.mark.parametrize("last", [(RESET, CANCEL), (WINDOW, bytes(4))], ids=["by the client", "by the server"])
async def test_a_storm_of_resets(place: Scene, last: tuple[int, bytes]) -> None:
    """Calls that are reset as soon as they are made, or that the server is made to reset, with a token and without."""
    tokens = [place.server.token("viewer").strip(), ""]

    def storm() -> None:
        with ExitStack() as stack:
            wires = [stack.enter_context(Wire(place.server.address)) for _ in range(4)]
            for number in range(FLOOD):
                at = number % len(wires)
                burst = [reset_call(wires[at], tokens[number // len(wires) % 2], *last) for _ in range(50)]
                if not wires[at].send(b"".join(burst)):
                    assert last[0] == WINDOW, "what is no error does not end a connection"
                    wires[at] = stack.enter_context(Wire(place.server.address))

    async with good_client(place) as client:
        await asyncio.to_thread(storm)
    assert client.served(), client.outcomes


async def test_headers_without_an_end(place: Scene) -> None:
    """CONTINUATION frames, with and without content, on streams that never come to be."""
    async with good_client(place) as client:
        for content in (b"", bytes(16_000)):
            with Wire(place.server.address) as one:
                one.send(frame(HEADERS, 0, 1, one.block(PATH)))
                for _ in range(FLOOD):
                    if not one.send(frame(CONTINUATION, 0, 1, content)):
                        break
                await asyncio.sleep(0.1)
    assert client.served(), client.outcomes


async def test_huge_metadata(place: Scene) -> None:
    async with good_client(place) as client:
        with Wire(place.server.address) as one:
            for number in range(FLOOD // 20):
                block = one.block(PATH, more=[(f"x-{number}-{part}", "v" * 8000) for part in range(4)])
                stream, one._next = one._next, one._next + 2
                first, *rest = [block[start : start + 16_000] for start in range(0, len(block), 16_000)]
                one.send(frame(HEADERS, END_STREAM, stream, first))
                for at, part in enumerate(rest):
                    one.send(frame(CONTINUATION, END_HEADERS if at == len(rest) - 1 else 0, stream, part))
            assert b"grpc-status" in one.answer() or not one.send(frame(PING, 0, 0, bytes(8)))
    assert client.served(), client.outcomes


async def test_messages_that_are_too_large(place: Scene) -> None:
    """A length that nothing could keep is refused before anything of it has come."""
    token = place.server.token("viewer").strip()
    with Wire(place.server.address) as one:
        async with good_client(place) as client:
            for _ in range(FLOOD // 10):
                stream = one.begin(PATH, token)
                one.send(frame(DATA, 0, stream, message(bytes(1000), length=0xFFFFFFFF)))
            await asyncio.sleep(0.2)
            await served_again(place, "viewer")
        assert client.served(), client.outcomes


async def test_frames_that_ask_for_an_answer_each(place: Scene) -> None:
    """Of a PING, or SETTINGS, the server owes an acknowledgement, which nobody takes."""
    async with good_client(place) as client:
        for kind, payload in ((PING, bytes(8)), (SETTINGS, b"")):
            with Wire(place.server.address) as one:
                for _ in range(FLOOD):
                    if not one.send(frame(kind, 0, 0, payload) * 20):
                        break
    assert client.served(), client.outcomes


# ---- connections


async def test_idle_connections(place: Scene) -> None:
    """Some say nothing at all, some greet; what they took is free again when they are gone."""
    before = place.open_files()
    async with good_client(place) as client:
        with ExitStack() as stack:
            for number in range(MOST_CONNECTIONS // 2):
                stack.enter_context(Wire(place.server.address, greet=number % 2 == 0))
            async with good_client(place) as late:
                await asyncio.sleep(0.3)
            assert place.open_files() > before + MOST_CONNECTIONS // 3
        await files_are_closed(place, before)
    assert client.served() and late.served()


async def test_more_connections_than_there_may_be(place: Scene) -> None:
    """Who is there stays, who comes is turned away, and files are left for the server itself."""
    before = place.open_files()
    async with good_client(place) as client:
        with ExitStack() as stack:
            wires = [stack.enter_context(Wire(place.server.address)) for _ in range(MOST_CONNECTIONS + FLOOD)]
            await asyncio.sleep(0.3)
            assert place.open_files() <= before + MOST_CONNECTIONS
            assert not any(wire.answer(0.1) for wire in wires[-10:]), "closed without a word"
        await files_are_closed(place, before)
    assert client.served()
    async with good_client(place) as late:
        pass
    assert late.served()


# ---- helpers


async def files_are_closed(place: Scene, before: int) -> None:
    """Wait until the server has about as many files open as before."""
    async with asyncio.timeout(60):
        while place.open_files() > before + 10:  # noqa: ASYNC110  # nothing tells of another process's files
            await asyncio.sleep(0.05)


def half_a_message(wire: Wire, path: str, token: str = "") -> None:
    stream = wire.begin(path, token)
    wire.send(frame(DATA, 0, stream, message(b"x", length=1000)))


def reset_call(wire: Wire, token: str, kind: int, payload: bytes) -> bytes:
    stream, wire._next = wire._next, wire._next + 2
    headers = frame(HEADERS, END_HEADERS, stream, wire.block(PATH, token))
    return headers + frame(DATA, END_STREAM, stream, message(REQUEST)) + frame(kind, 0, stream, payload)


async def refused(place: Scene, role: str) -> str:
    """What a call of a role is refused with, over a connection of its own."""
    async with place.server.channel() as channel:
        stub = exchanges_pb2_grpc.ExchangesStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetExchange(BINANCE, metadata=place.server.authorization(role), timeout=30)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        return str(caught.value.trailing_metadata())


async def served_again(place: Scene, role: str) -> None:
    """Wait until a call of a role is answered."""
    async with asyncio.timeout(60), place.server.channel() as channel:
        stub = exchanges_pb2_grpc.ExchangesStub(channel)
        while True:
            try:
                await stub.GetExchange(BINANCE, metadata=place.server.authorization(role), timeout=30)
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, error
                await asyncio.sleep(0.05)
            else:
                return
