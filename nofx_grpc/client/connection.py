"""Where the server is, how it is reached, and what the environment says about it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict, cast

import grpc

from nofx_grpc import __version__
from nofx_grpc.address import DEFAULT_LISTEN, UNIX, check_address, host_and_port, is_local, reachable
from nofx_grpc.client.credentials import Certificates
from nofx_grpc.client.errors import ClientSettingsError

_MEBIBYTE = 1024 * 1024
_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.primary_user_agent", f"nofx-grpc-python/{__version__}"),
    # The largest page that a server can be set up to send, and some room.
    ("grpc.max_receive_message_length", 65 * _MEBIBYTE),
    # A server that was restarted is found again within seconds; by default gRPC waits for up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # A connection that is cut without a word is noticed while a call is under way.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Without this one gRPC waits for a minute, whatever the one above says.
    ("grpc.http2.ping_timeout_ms", 10_000),
    # A stream may be quiet for long: by default gRPC leaves off pinging after two pings without data.
    ("grpc.http2.max_pings_without_data", 0),
    # Calls go round all addresses of the name, so that replicas share them, and past one that is down.
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
)


class ClientSettings(TypedDict, total=False):
    """What the environment says of a client, by the names that `Client` takes."""

    address: str
    token: str
    token_file: str
    ca_file: str
    client_cert_file: str
    client_key_file: str


VARIABLES = {
    "NOFX_GRPC_TOKEN": "token",
    "NOFX_GRPC_TOKEN_FILE": "token_file",
    "NOFX_GRPC_CA_FILE": "ca_file",
    "NOFX_GRPC_CLIENT_CERT_FILE": "client_cert_file",
    "NOFX_GRPC_CLIENT_KEY_FILE": "client_key_file",
}


def settings_of(env: Mapping[str, str]) -> ClientSettings:
    """What these variables say; an empty one counts as not set.  Raises ClientSettingsError."""
    found = {name: env[variable] for variable, name in VARIABLES.items() if env.get(variable)}
    if "token" in found and "token_file" in found:
        raise ClientSettingsError("NOFX_GRPC_TOKEN and NOFX_GRPC_TOKEN_FILE are both set: set one of them")
    if not found.keys() & {"token", "token_file", "client_cert_file"}:
        raise ClientSettingsError("no credential: set NOFX_GRPC_TOKEN_FILE, or NOFX_GRPC_TOKEN")
    return cast("ClientSettings", {"address": _address_of(env), **found})


def _address_of(env: Mapping[str, str]) -> str:
    variable = next((name for name in ("NOFX_GRPC_ADDRESS", "NOFX_GRPC_LISTEN") if env.get(name)), "")
    address = env.get(variable, DEFAULT_LISTEN)
    try:
        check_address(address)
    except ValueError as error:
        raise ClientSettingsError(f"{variable} has value {address!r}: expected {error}") from None
    return reachable(address) if variable == "NOFX_GRPC_LISTEN" else address


@dataclass(frozen=True, slots=True)
class Connection:
    """A server's address, and the credentials to speak TLS with it (None: plaintext).

    Plaintext is for this machine only: a token that is sent beyond it in the clear is no secret any more.
    """

    address: str
    credentials: grpc.ChannelCredentials | None

    @classmethod
    def to(cls, address: str, certificates: Certificates) -> "Connection":
        """Raises ClientSettingsError."""
        try:
            check_address(address)
        except ValueError as error:
            raise ClientSettingsError(f"the address {address!r} is not one: expected {error}") from None
        if not address.startswith(UNIX) and host_and_port(address)[1] == 0:
            raise ClientSettingsError(f"the address {address!r} has no port: give the one that the server printed")
        plaintext = is_local(address) and not certificates
        return cls(address, None if plaintext else certificates.credentials())

    def channel(self) -> grpc.Channel:
        if self.credentials is None:
            return grpc.insecure_channel(self.address, self._options())
        return grpc.secure_channel(self.address, self.credentials, self._options())

    def aio_channel(self) -> grpc.aio.Channel:
        """Must be called in a running event loop."""
        if self.credentials is None:
            return grpc.aio.insecure_channel(self.address, self._options())
        return grpc.aio.secure_channel(self.address, self.credentials, self._options())

    def _options(self) -> list[tuple[str, int | str]]:
        # A proxy is for the outside world.
        return [*_OPTIONS, *([("grpc.enable_http_proxy", 0)] if is_local(self.address) else [])]
