"""HTTP/2 by hand: a connection that says whatever it is told to, right or wrong."""

import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Self

from hpack import Encoder

DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED = 0x1, 0x4, 0x8
INITIAL_WINDOW = 4
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SECONDS = 20.0


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def setting(number: int, value: int) -> bytes:
    return struct.pack(">HI", number, value)


def message(raw: bytes, length: int | None = None) -> bytes:
    """A gRPC message, which may lie about its length."""
    return struct.pack(">BI", 0, len(raw) if length is None else length) + raw


class Wire:
    """A connection to a plaintext server.  What is sent after the server has closed it goes nowhere."""

    def __init__(self, address: str, settings: bytes = b"", *, greet: bool = True) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=_SECONDS)
        self._encoder, self._next = Encoder(), 1
        if greet:
            self.send(_PREFACE + frame(SETTINGS, payload=settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def send(self, raw: bytes) -> bool:
        """Whether the server still takes it."""
        try:
            self._socket.sendall(raw)
        except OSError:
            return False
        return True

    def block(self, path: str, token: str = "", more: Iterable[tuple[str, str]] = ()) -> bytes:
        """The headers of a call."""
        headers = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")]
        headers += [("content-type", "application/grpc"), ("te", "trailers")]
        headers += [("authorization", f"Bearer {token}")] if token else []
        return bytes(self._encoder.encode([*headers, *more]))

    def begin(self, path: str, token: str = "", more: Iterable[tuple[str, str]] = ()) -> int:
        """Open a stream for a call; its number."""
        stream, self._next = self._next, self._next + 2
        self.send(frame(HEADERS, END_HEADERS, stream, self.block(path, token, more)))
        return stream

    def call(self, path: str, raw: bytes = b"", token: str = "") -> int:
        """Call with one message, and do not wait for the answer."""
        stream = self.begin(path, token)
        self.send(frame(DATA, END_STREAM, stream, message(raw)))
        return stream

    def answer(self, seconds: float = 1.0) -> bytes:
        """What the server says until it is silent for a moment, or has closed."""
        said = b""
        self._socket.settimeout(seconds)
        with suppress(OSError):
            while part := self._socket.recv(65536):
                said += part
        self._socket.settimeout(_SECONDS)
        return said
