"""What commands that talk to a server share: a client as the environment says, and its errors as exit codes."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nofx_grpc.address import DEFAULT_LISTEN, check_address, is_local, reachable
from nofx_grpc.cli.reports import EXIT_CANNOT_START, EXIT_FAILED, CommandFailed

if TYPE_CHECKING:
    from nofx_grpc.client import Client

_CREDENTIALS = ("NOFX_GRPC_TOKEN", "NOFX_GRPC_TOKEN_FILE", "NOFX_GRPC_CLIENT_CERT_FILE")


@contextmanager
def connected(role: str, env: Mapping[str, str] = os.environ) -> Iterator["Client"]:
    """A client as the environment says, for a command that is for callers of this role; see docs/cli.md.

    Raises CommandFailed for what the client cannot be made of, and for errors of its calls inside the block.
    """
    from nofx_grpc.client import Client, ClientSettingsError

    try:
        client = Client.from_env(with_local_defaults(env, role))
    except ClientSettingsError as error:
        raise CommandFailed("SETTINGS_ERROR", str(error), EXIT_CANNOT_START) from error
    with client, failures_told():
        yield client


@contextmanager
def failures_told() -> Iterator[None]:
    """Turns errors of a client's calls into CommandFailed."""
    from nofx_grpc.client import NofxClientError

    try:
        yield
    except NofxClientError as error:
        raise CommandFailed(error.reason or error.code.name, error.message, EXIT_FAILED) from error


def with_local_defaults(env: Mapping[str, str], role: str) -> dict[str, str]:
    """The environment, and where it has none and the server is on this machine, the token of the role that the server's
    first start has left in the data directory, and the server's own certificate.
    """
    found = {name: value for name, value in env.items() if value}
    address = found.get("NOFX_GRPC_ADDRESS") or reachable(found.get("NOFX_GRPC_LISTEN", DEFAULT_LISTEN))
    if not _is_here(address):
        return found
    if not found.keys() & set(_CREDENTIALS):
        token = Path(found.get("NOFX_GRPC_DATA_DIR", "data"), "tokens", role)
        if token.exists():
            found["NOFX_GRPC_TOKEN_FILE"] = str(token)
    if certificate := found.get("NOFX_GRPC_TLS_CERT"):
        found.setdefault("NOFX_GRPC_CA_FILE", certificate)
    return found


def _is_here(address: str) -> bool:
    try:
        return is_local(check_address(address))
    except ValueError:
        return False  # the client says what is wrong with it
