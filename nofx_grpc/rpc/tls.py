"""The server's side of TLS: its certificate, and who may vouch for its clients."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509

from nofx_grpc.errors import SettingsError
from nofx_grpc.pem import belong_together, certificates_in
from nofx_grpc.rpc.reloading import Reloading


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """What the files of TLS hold at one time; `authorities` sign the certificates of clients."""

    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)
    client_ca: bytes = field(repr=False)
    authorities: tuple[x509.Certificate, ...] = field(repr=False)


def tls_files(cert: Path, key: Path, client_ca: Path | None) -> Reloading[TlsMaterial]:
    """The material of these files, kept current.  Raises SettingsError if they are no such thing."""
    paths = [cert, key, *([client_ca] if client_ca else [])]
    return Reloading("tls", paths, lambda: load_material(cert, key, client_ca))


def load_material(cert: Path, key: Path, client_ca: Path | None) -> TlsMaterial:
    """Raises SettingsError for a file that cannot be read or is no such thing, and for a key of another certificate."""
    chain, private = _content(cert), _content(key)
    if not belong_together(chain, private):
        raise SettingsError(f"{key} is not the private key, not encrypted, of the certificate in {cert}")
    authorities = _content(client_ca) if client_ca else b""
    try:
        return TlsMaterial(chain, private, authorities, tuple(certificates_in(authorities)) if client_ca else ())
    except ValueError as error:
        raise SettingsError(f"{client_ca}: expected {error}") from error


def server_credentials(files: Reloading[TlsMaterial], *, clients: bool) -> grpc.ServerCredentials:
    """The credentials of a listener; each new connection gets the newest material.

    With `clients` only clients whose certificate was signed by one of the authorities get through.
    """
    given = files.value

    # The stubs do not know that None stands for no change.
    def newest() -> Any:
        # gRPC asks before each handshake, in a thread of its own.
        nonlocal given
        if files.value is given:
            return None
        given = files.value
        return _configuration(given, clients=clients)

    return grpc.dynamic_ssl_server_credentials(_configuration(given, clients=clients), newest, clients)


def _configuration(material: TlsMaterial, *, clients: bool) -> grpc.ServerCertificateConfiguration:
    pairs = [(material.key, material.chain)]
    return grpc.ssl_server_certificate_configuration(pairs, material.client_ca if clients else None)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
