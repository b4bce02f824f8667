"""Uploads that stop short of their end, with all the rules of flow control kept."""

import socket
import time
from contextlib import suppress

import h2.connection
import h2.events

from tests.attack.wire import message

_FRAME = bytes(16_000)


class Uploads:
    """A connection on which messages are sent but for their last bytes.  Close it in the end."""

    def __init__(self, address: str, path: str, token: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._http = h2.connection.H2Connection()
        self._http.initiate_connection()
        self._path, self._token = path, token
        self._left: dict[int, int] = {}
        self.sent = 0

    def close(self) -> None:
        self._socket.close()

    def begin(self, calls: int, size: int) -> None:
        """Begin so many calls, each with a message of this size, of which the last byte never comes."""
        self._exchange()
        headers = [(":method", "POST"), (":scheme", "http"), (":authority", "localhost"), (":path", self._path)]
        headers += [("content-type", "application/grpc"), ("te", "trailers")]
        headers += [("authorization", f"Bearer {self._token}")] if self._token else []
        for _ in range(calls):
            stream = self._http.get_next_available_stream_id()
            self._http.send_headers(stream, headers)
            self._http.send_data(stream, message(b"", length=size))
            self._left[stream] = size - 1
        self._exchange()

    def send(self, seconds: float) -> None:
        """Send what the server takes, until it takes nothing more for a moment, or `seconds` have passed."""
        until, last = time.monotonic() + seconds, time.monotonic()
        while time.monotonic() < until and time.monotonic() - last < 1:
            if self._send_once():
                last = time.monotonic()

    def _send_once(self) -> int:
        """How many bytes the server took this time."""
        sent = 0
        for stream, left in self._left.items():
            while left and (size := min(self._http.local_flow_control_window(stream), len(_FRAME), left)) > 0:
                self._http.send_data(stream, _FRAME[:size])
                left, sent = left - size, sent + size
            self._left[stream] = left
        self._exchange()
        self.sent += sent
        return sent

    def _exchange(self) -> None:
        """Send what waits, and hear what the server says."""
        self._socket.settimeout(30)
        self._socket.sendall(self._http.data_to_send())
        self._socket.settimeout(0.02)
        with suppress(TimeoutError):
            for event in self._http.receive_data(self._socket.recv(1 << 20)):
                if isinstance(event, h2.events.StreamReset | h2.events.StreamEnded) and event.stream_id is not None:
                    self._left.pop(event.stream_id, None)
