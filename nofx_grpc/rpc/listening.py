"""The address that a server listens on: it must be this server's alone."""

import asyncio
import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from nofx_grpc.address import UNIX, host_and_port
from nofx_grpc.errors import StartError

_CONNECT_SECONDS = 2.0


async def check_free(address: str) -> None:
    """Raises StartError if something listens on the address already.

    gRPC would not tell: it takes a Unix socket away from whoever has it, and of a name with several addresses it is
    content with one.
    """
    if address.startswith(UNIX):
        _check_socket_path(Path(address.removeprefix(UNIX)))
    if await _answers(address):
        raise StartError(f"cannot listen on {address}: another server is running there")


@contextlib.contextmanager
def socket_lock(address: str) -> Iterator[None]:
    """Hold a lock beside a Unix socket, so that of two servers that start together only one gets it."""
    if not address.startswith(UNIX):
        yield
        return
    lock = Path(address.removeprefix(UNIX) + ".lock")
    try:
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartError(f"cannot listen on {address}: {error.strerror}") from error
    with os.fdopen(file) as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(f"cannot listen on {address}: another server is running there") from None
        yield


def _check_socket_path(path: Path) -> None:
    """Raises StartError for a file that is no socket: gRPC would remove it."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise StartError(f"cannot listen on {UNIX}{path}: it is a file, and no socket")


async def _answers(address: str) -> bool:
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            if address.startswith(UNIX):
                _, writer = await asyncio.open_unix_connection(address.removeprefix(UNIX))
            else:
                host, port = host_and_port(address)
                if port == 0:
                    return False
                _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
