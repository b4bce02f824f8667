"""What `serve` prints when it is ready: the address, and a line to try it with."""

import shlex
from pathlib import Path

from nofx_grpc.address import UNIX, host_and_port, reachable
from nofx_grpc.cli.certificates import names_of
from nofx_grpc.settings import Settings

METHOD = "nofx_grpc.v1.Exchanges/ListSupportedExchanges"


def announce(settings: Settings, address: str, mtls_address: str) -> None:
    """Print where the server is, and a grpcurl line that works as it stands on this machine."""
    target = _target(address)
    token = (settings.data_dir / "tokens" / "admin").absolute()
    lines = [f"nofx-grpc serves on {address}"]
    if token.exists():
        header = f'-H "authorization: Bearer $(cat {shlex.quote(str(token))})"'
        lines += ["Try it:", f"  grpcurl {_transport(settings, target)} {header} {shlex.quote(target)} {METHOD}"]
    else:
        lines += ["Make a token:", "  nofx-grpc token create --role admin"]
    if mtls_address:
        lines.append(f"Callers with certificates: {mtls_address}")
    print("\n".join(lines), flush=True)


def _target(address: str) -> str:
    """The address for a client that may run in any directory of this machine."""
    if address.startswith(UNIX):
        return UNIX + str(Path(address.removeprefix(UNIX)).absolute())
    return reachable(address)


def _transport(settings: Settings, target: str) -> str:
    if settings.tls_cert is None:
        return "-plaintext"
    options = f"-cacert {shlex.quote(str(settings.tls_cert.absolute()))}"
    names = names_of(settings.tls_cert)
    host = "" if target.startswith(UNIX) else host_and_port(target)[0]
    # The first tokens work from this machine only, which the certificate need not be for.
    return options if host in names or not names else f"{options} -authority {shlex.quote(names[0])}"
