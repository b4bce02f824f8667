"""The address that a server listens on: it must be this server's alone, or that of the workers of one parent."""

import asyncio
import contextlib
import errno
import fcntl
import os
import resource
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import structlog

from nofx_grpc.address import UNIX, host_and_port
from nofx_grpc.errors import StartError

logger = structlog.get_logger(__name__)

_CONNECT_SECONDS = 2.0
_OTHER_FILES = 200  # of the database, its readers, the logs


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


@contextlib.contextmanager
def reserved(address: str) -> Iterator[str]:
    """Hold a TCP address for workers that share it by SO_REUSEPORT; what they listen on, a port 0 replaced by one.

    Raises StartError if somebody else has it, or it cannot be had.
    """
    with contextlib.ExitStack() as held:
        try:
            port = _reserve_all(held, *host_and_port(address))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            why = "another server is running there" if taken else error.strerror
            raise StartError(f"cannot listen on {address}: {why}") from error
        yield f"{address.rpartition(':')[0]}:{port}"


def _reserve_all(held: contextlib.ExitStack, host: str, port: int) -> int:
    """Reserve every address that a name stands for on this machine; the port.  Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    missing: OSError | None = None
    reserved_one = False
    for family, place in dict.fromkeys((family, str(place[0])) for family, *_, place in found):
        try:
            port, reserved_one = _reserve(held, family, place, port), True
        except OSError as error:
            # As gRPC sees it: `localhost` is often said to be ::1, too, where there is no IPv6.
            if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                raise
            missing = error
    if missing is not None and not reserved_one:
        raise missing
    return port


def _reserve(held: contextlib.ExitStack, family: int, host: str, port: int) -> int:
    """Bind a socket that does not listen; the port.  Raises OSError."""
    bound = held.enter_context(socket.socket(family, socket.SOCK_STREAM))
    # It may be bound beside connections that are being closed, as gRPC does it, and so beside another parent's.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((host, port))
    taken: int = bound.getsockname()[1]
    # So parents exclude each other by a name, which the kernel forgets when its holder ends.
    name = held.enter_context(socket.socket(socket.AF_UNIX))
    name.bind(f"\0nofx-grpc {host} {taken}")
    # Only now, when it is known that nobody else has it: from here on whoever asks for it in this way may share it.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return taken


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


def affordable_connections(most: int, listeners: int) -> int:
    """How many connections each listener may have: `most`, or what the limit on open files leaves for it.

    A server without a file left could open neither its log's nor its database's.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most * listeners + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return most
    connections = max(1, (soft - _OTHER_FILES) // listeners)
    logger.warning("few_open_files", limit=soft, wanted=wanted, connections=connections)
    return connections
