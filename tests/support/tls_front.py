"""TLS before a PostgreSQL that was built without: it speaks the beginning of the protocol, and passes on the rest."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

_TLS_WANTED = (80877103).to_bytes(4, "big")


class TlsFront:
    """Offers TLS with its certificate, or says that it has none; counts the connections that came to be encrypted."""

    def __init__(self, socket: Path, context: ssl.SSLContext | None) -> None:
        self._socket, self._context = socket, context
        self.encrypted = self.plain = 0
        self.port = 0
        self._passing: set[asyncio.Task[None]] = set()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):  # the client did not like what it was shown
            first = await reader.readexactly(8)
            if first[4:] != _TLS_WANTED:
                self.plain += 1
            elif self._context is None:
                writer.write(b"N")
                first = b""
            else:
                writer.write(b"S")
                await writer.drain()
                await writer.start_tls(self._context)
                self.encrypted += 1
                first = b""
            far_reader, far_writer = await asyncio.open_unix_connection(self._socket)
            far_writer.write(first)
            await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
        writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(16_384):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def tls_front(socket_dir: Path | None, certificate: tuple[str, str] | None) -> AsyncIterator[TlsFront]:
    """A front to the PostgreSQL whose socket is there, with the files of a certificate and its key, or without TLS."""
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
    assert socket_dir is not None
    front = TlsFront(socket_dir / ".s.PGSQL.5432", context)
    listening = await asyncio.start_server(front.connect, "127.0.0.1", 0)
    front.port = listening.sockets[0].getsockname()[1]
    try:
        yield front
    finally:
        listening.close()
