"""What `serve` prints when it is ready: the address, and a line to try it with."""

import shlex

from nofx_grpc.address import UNIX
from nofx_grpc.settings import Settings

METHOD = "nofx_grpc.v1.Exchanges/ListSupportedExchanges"


def announce(settings: Settings, address: str) -> None:
    """Print where the server is, and a grpcurl line that works as it stands on this machine."""
    token = (settings.data_dir / "tokens" / "admin").absolute()
    lines = [f"nofx-grpc serves on {address}"]
    if token.exists():
        header = f'-H "authorization: Bearer $(cat {shlex.quote(str(token))})"'
        lines += ["Try it:", f"  grpcurl {_transport(settings)} {header} {_target(address)} {METHOD}"]
    else:
        lines += ["Make a token with: nofx-grpc token create --role ROLE --name NAME"]
    print("\n".join(lines), flush=True)


def _transport(settings: Settings) -> str:
    if settings.tls_cert is None:
        return "-plaintext"
    return f"-cacert {shlex.quote(str(settings.tls_cert.absolute()))}"


def _target(address: str) -> str:
    if address.startswith(UNIX):
        return "unix:" + shlex.quote(address.removeprefix(UNIX))
    return address
