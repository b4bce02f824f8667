"""`nofx-grpc health`: asks a server whether it serves.  Imports little, for it runs every few seconds."""

import argparse
import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2 as pb

from nofx_grpc.address import DEFAULT_LISTEN, UNIX, check_address, host_and_port, reachable
from nofx_grpc.cli.certificates import names_of
from nofx_grpc.cli.reports import EXIT_FAILED
from nofx_grpc.errors import SettingsError

_CHECK = "/grpc.health.v1.Health/Check"


def run(arguments: list[str]) -> None:
    """Ask as the command line says, and print the answer; exits with 1 if the server does not serve."""
    options = _parser().parse_args(arguments)
    listen, cert = settings_of(options.config, os.environ)
    problem = check(options.address or listen, options.cacert or cert, options.timeout)
    if problem:
        from nofx_grpc.redaction import escaped  # dear to import; and whoever answers may say anything

        print(escaped(problem), file=sys.stderr)
        sys.exit(EXIT_FAILED)
    print("SERVING")


def settings_of(config: Path | None, env: Mapping[str, str]) -> tuple[str, str]:
    """The address to listen on and the certificate ("" for none): as `Settings.load` finds them, without its checks.

    Raises SettingsError if the file cannot be read.
    """
    try:
        in_file = tomllib.loads(config.read_text(encoding="utf-8")) if config else {}
    except (OSError, ValueError) as error:
        raise SettingsError(f"the configuration file {config} cannot be read: {error}") from error
    listen = env.get("NOFX_GRPC_LISTEN") or str(in_file.get("listen", DEFAULT_LISTEN))
    return listen, env.get("NOFX_GRPC_TLS_CERT") or str(in_file.get("tls_cert", ""))


def check(address: str, cert: str, timeout: float) -> str:
    """Ask the server for its health; "" if it serves, else what is wrong.

    Raises SettingsError for what cannot be asked.  With `cert` the server must show a certificate that is in this file,
    or was signed by one that is.
    """
    try:
        target = reachable(check_address(address))
    except ValueError as error:
        raise SettingsError(f"the address {address!r} is not one: expected {error}") from error
    if not target.startswith(UNIX) and host_and_port(target)[1] == 0:
        raise SettingsError(f"the port of {address} is chosen by the server: give --address with the one it printed")
    with _channel(target, cert) as channel:
        ask = channel.unary_unary(
            _CHECK,
            request_serializer=pb.HealthCheckRequest.SerializeToString,
            response_deserializer=pb.HealthCheckResponse.FromString,
        )
        try:
            response: pb.HealthCheckResponse = ask(pb.HealthCheckRequest(), timeout=timeout)
        except grpc.RpcError as error:
            return f"{address} does not answer: {error.code().name}: {error.details()}"  # a call's error is a call
    if response.status == pb.HealthCheckResponse.SERVING:
        return ""
    return f"{address} answers {pb.HealthCheckResponse.ServingStatus.Name(response.status)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "nofx-grpc health", description="Ask a server whether it serves: exit code 0 if so, else 1."
    )
    parser.add_argument("--config", metavar="FILE", type=Path, help="a TOML file of settings; the environment wins")
    parser.add_argument("--address", help="host:port or unix:path, in place of NOFX_GRPC_LISTEN")
    parser.add_argument("--cacert", metavar="FILE", help="certificate to expect, in place of NOFX_GRPC_TLS_CERT")
    parser.add_argument("--timeout", metavar="SECONDS", type=float, default=3.0, help="wait for an answer (default: 3)")
    return parser


def _channel(target: str, cert: str) -> grpc.Channel:
    # A proxy is for the outside world; this is a question to a neighbour.
    options: list[tuple[str, int | str]] = [("grpc.enable_http_proxy", 0)]
    if not cert:
        return grpc.insecure_channel(target, options)
    for name in names_of(Path(cert))[:1]:
        # The certificate is known by itself; that it names this address is not what is asked.
        options.append(("grpc.ssl_target_name_override", name))
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(Path(cert).read_bytes()), options)
