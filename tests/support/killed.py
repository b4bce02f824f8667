"""A server that is killed and started again under its clients."""

import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path

from tests.support.processes import ServerProcess, environment, serving
from tests.support.proxy import Proxy, proxy_to


class Killed:
    """A server as a process of its own, behind a proxy, on data that outlives it."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self._log = directory / "log"
        self._env = environment(directory / "data", **settings)
        self._serving = ExitStack()
        self.server: ServerProcess
        self.proxy: Proxy
        self.start()

    @property
    def address(self) -> str:
        return self.proxy.address

    @property
    def database(self) -> Path:
        return self.server.data_dir / "nofx.db"

    def token(self, role: str) -> str:
        return self.server.token(role)

    def start(self) -> None:
        self.server = self._serving.enter_context(serving(self._env, self._log))

    def end(self, how: signal.Signals) -> None:
        self.server.signal(how)
        self.server.wait()
        self._serving.close()


@asynccontextmanager
async def killed_server(directory: Path, **settings: str) -> AsyncIterator[Killed]:
    """A server with these settings, and a proxy before it."""
    async with AsyncExitStack() as stack:
        made = Killed(directory, **settings)
        stack.callback(made.end, signal.SIGKILL)
        made.proxy = await stack.enter_async_context(proxy_to(lambda: made.server.address))
        yield made
