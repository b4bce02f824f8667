"""A way to a server that can be cut and slowed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Proxy:
    """Passes bytes on between clients and wherever the server is; `delay` seconds late."""

    def __init__(self, server: Callable[[], str]) -> None:
        self._server, self.delay = server, 0.0
        self._open: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.Task[None] | None] = set()
        self._silent = self._ended = False
        self.address = ""

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        self._connections.add(connection)
        self._open.add(writer)
        try:
            await self._pass_on(reader, writer)
        finally:
            self._connections.discard(connection)
            self._open.discard(writer)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._server().rpartition(":")
        try:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            return
        if self._ended:
            far_writer.transport.abort()
        self._open.add(far_writer)
        passing = [self._pass(reader, far_writer), self._pass(far_reader, writer)]
        await asyncio.gather(*passing, return_exceptions=True)
        self._open.discard(far_writer)

    async def end(self) -> None:
        """End every connection, and what passes on between its two sides."""
        self._ended = True
        self.cut()
        await asyncio.gather(*(connection for connection in self._connections if connection), return_exceptions=True)

    def cut(self) -> None:
        """End every connection without a word."""
        for writer in self._open:
            writer.transport.abort()

    def silence(self) -> None:
        """Pass nothing on any more, and leave every connection as it is."""
        self._silent = True

    def speak(self) -> None:
        """Serve new connections as before; what was passed on in silence is lost, and so are the connections."""
        self._silent = False
        self.cut()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(16_384):
                if self._silent:
                    continue
                if self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def listening(proxy: Proxy) -> AsyncIterator[None]:
    """The proxy takes connections in this block."""
    server = await asyncio.start_server(proxy.connect, "127.0.0.1", 0)
    proxy.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield
    finally:
        server.close()
        await proxy.end()


@asynccontextmanager
async def proxy_to(server: Callable[[], str]) -> AsyncIterator[Proxy]:
    """A proxy to the address that `server` tells at each new connection."""
    proxy = Proxy(server)
    async with listening(proxy):
        yield proxy
