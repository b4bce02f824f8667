"""`nofx-grpc pki init`: certificates to develop with: an authority, a server, a client for each role, and a policy."""

import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nofx_grpc.address import UNIX, check_address, host_and_port, reachable
from nofx_grpc.cli.reports import CommandFailed
from nofx_grpc.data_dir import write_private
from nofx_grpc.errors import StartError
from nofx_grpc.services.roles import ROLES

TRUST_DOMAIN = "nofx.local"
_LOCAL = ("localhost", "127.0.0.1", "::1")
# What each role can be tried with, by an empty request.
_TRY = {
    "admin": "Admin/ListTokens",
    "gateway": "SystemConfig/GetPublicConfig",
    "engine": "Models/ListSupportedModels",
    "viewer": "Exchanges/ListSupportedExchanges",
}


@dataclass(frozen=True, slots=True)
class Made:
    """What was made, and where the server is to listen for it."""

    directory: Path
    listen: str
    expires_at: datetime

    @property
    def settings(self) -> Mapping[str, str]:
        """What makes a server use it."""
        files = {"TLS_CERT": "server.pem", "TLS_KEY": "server.key"}
        files |= {"MTLS_CLIENT_CA": "ca.pem", "MTLS_POLICY": "policy.toml"}
        settings = {f"NOFX_GRPC_{name}": str(self.directory / file) for name, file in files.items()}
        return settings | {"NOFX_GRPC_MTLS_LISTEN": self.listen}

    @property
    def lines(self) -> Mapping[str, str]:
        """For each role a line to try it with."""
        return {role: self._line(role) for role in ROLES}

    def _line(self, role: str) -> str:
        files = {"-cacert": "ca.pem", "-cert": f"{role}.pem", "-key": f"{role}.key"}
        shown = " ".join(f"{option} {shlex.quote(str(self.directory / file))}" for option, file in files.items())
        return f"grpcurl {shown} {reachable(self.listen)} nofx_grpc.v1.{_TRY[role]}"

    def as_json(self) -> dict[str, object]:
        expires = self.expires_at.isoformat().replace("+00:00", "Z")
        return {
            "directory": str(self.directory),
            "expire_time": expires,
            "settings": dict(self.settings),
            "lines": dict(self.lines),
        }

    def show(self) -> None:
        print(f"Made in {self.directory}, to develop with; valid until {self.expires_at:%Y-%m-%d}.")
        print("For the server:")
        for name, value in self.settings.items():
            print(f"  export {name}={shlex.quote(value)}")
        print("Try it, once the server runs:")
        for line in self.lines.values():
            print(f"  {line}")


def init(directory: Path, listen: str, hosts: list[str], days: int, now: datetime) -> Made:
    """Make everything in a directory; nothing if any of it is there already.

    Raises CommandFailed for an address that is none, or files that are there; StartError if they cannot be written.
    """
    host = _host_of(listen)
    directory = directory.absolute()
    expires_at = now.replace(microsecond=0) + timedelta(days=days)
    names = list(dict.fromkeys([*_LOCAL, host, *hosts]))
    files = _files(names, Validity(now - timedelta(minutes=5), expires_at))
    if there := [name for name in files if (directory / name).exists()]:
        raise CommandFailed("ALREADY_EXISTS", f"{directory} has {', '.join(there)} already: nothing was changed")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"the directory {directory} cannot be made: {error.strerror}") from error
    for name, content in files.items():
        write_private(directory / name, content)
    return Made(directory, listen, expires_at)


def _host_of(listen: str) -> str:
    try:
        if check_address(listen).startswith(UNIX):
            raise ValueError("host:port")
        host, port = host_and_port(reachable(listen))
    except ValueError as error:
        raise CommandFailed("INVALID_ARGUMENT", f"--listen has value {listen!r}: expected {error}") from error
    if port == 0:
        raise CommandFailed("INVALID_ARGUMENT", f"--listen has value {listen!r}: expected a port other than 0")
    return host


@dataclass(frozen=True, slots=True)
class Validity:
    """From when until when certificates count."""

    begin: datetime
    end: datetime


def _files(server_names: list[str], validity: Validity) -> dict[str, str]:
    """The contents of all files, by their names."""
    authority = Authority(validity)
    files = {"ca.pem": authority.pem, "ca.key": _pem_of(authority.key)}
    general = [_general_name(name) for name in server_names]
    files |= authority.issue("server", general, ExtendedKeyUsageOID.SERVER_AUTH)
    for role in ROLES:
        name = x509.UniformResourceIdentifier(f"spiffe://{TRUST_DOMAIN}/{role}")
        files |= authority.issue(role, [name], ExtendedKeyUsageOID.CLIENT_AUTH)
    grants = [f'[[grant]]\nspiffe_id = "spiffe://{TRUST_DOMAIN}/{role}"\nrole = "{role}"\n' for role in ROLES]
    return files | {
        "policy.toml": "# What client certificates are good for: see docs/security.md.\n\n" + "\n".join(grants)
    }


class Authority:
    """A certificate that signs others, and no further authorities."""

    def __init__(self, validity: Validity) -> None:
        self._validity, self.key = validity, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nofx-grpc development")])
        self._certificate = (
            self._builder(self._name, self.key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    @property
    def pem(self) -> str:
        return self._certificate.public_bytes(Encoding.PEM).decode()

    def issue(self, file: str, names: list[x509.GeneralName], usage: x509.ObjectIdentifier) -> dict[str, str]:
        """The files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        certificate = (
            self._builder(x509.Name([]), key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(authority, critical=False)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return {f"{file}.pem": certificate.public_bytes(Encoding.PEM).decode(), f"{file}.key": _pem_of(key)}

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._validity.begin)
            .not_valid_after(self._validity.end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    """Raises CommandFailed for what is neither a host name nor an IP address."""
    with suppress(ValueError):
        return x509.IPAddress(ip_address(name))
    if not name.isascii() or not name or any(c.isspace() or c in "/:@,?#" for c in name):
        raise CommandFailed("INVALID_ARGUMENT", f"--host has value {name!r}: expected a host name or an IP address")
    return x509.DNSName(name)


def _pem_of(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
