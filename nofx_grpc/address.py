"""Addresses to serve on and to connect to: ``host:port``, ``[ipv6]:port`` or ``unix:path``."""

import ipaddress
import os

DEFAULT_LISTEN = "127.0.0.1:50051"
UNIX = "unix:"
# What the kernel takes as the path of a Unix socket, without the NUL at its end.
UNIX_PATH_BYTES = 107


def check_address(address: str) -> str:
    """Return the address.  Raises ValueError with the accepted form if it is not one."""
    if address.startswith(UNIX):
        size = len(os.fsencode(address.removeprefix(UNIX)))
        if 0 < size <= UNIX_PATH_BYTES:
            return address
        raise ValueError(f"unix:path with a path of 1 to {UNIX_PATH_BYTES} bytes")
    host, port = _split(address)
    if not host or any(c.isspace() or c in "/?#@" for c in host) or not _is_port(port):
        raise ValueError("host:port or unix:path")
    return address


def is_local(address: str) -> bool:
    """Tell whether only this machine can reach the (checked) address.

    A name other than localhost counts as not local, wherever it leads today.
    """
    if address.startswith(UNIX):
        return True
    host, _ = _split(address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def reachable(address: str) -> str:
    """Return where a client on this machine finds a server that listens on the (checked) address."""
    for everywhere, loopback in (("0.0.0.0:", "127.0.0.1:"), ("[::]:", "[::1]:")):  # read, not bound to
        if address.startswith(everywhere):
            return loopback + address.removeprefix(everywhere)
    return address


def host_and_port(address: str) -> tuple[str, int]:
    """Return the two parts of a (checked) TCP address, the host without brackets."""
    host, port = _split(address)
    return host, int(port)


def _split(address: str) -> tuple[str, str]:
    """Return host and port, both "" where there are no two such parts."""
    host, _, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1])), port
        except ValueError:
            return "", ""
    # An IPv6 address without brackets does not show where its port begins.
    return ("", "") if ":" in host else (host, port)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len("65535") and int(text) <= 65535
