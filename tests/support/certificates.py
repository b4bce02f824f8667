"""Certificates with any names, good and bad, and the settings of a server that asks for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOUR = timedelta(hours=1)
DNS, URI, EMAIL = x509.DNSName, x509.UniformResourceIdentifier, x509.RFC822Name


@dataclass(frozen=True)
class Pair:
    """A certificate with those that signed it, and its key."""

    certificate: x509.Certificate
    private: ec.EllipticCurvePrivateKey
    signers: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> bytes:
        return b"".join(each.public_bytes(Encoding.PEM) for each in (self.certificate, *self.signers))

    @property
    def key(self) -> bytes:
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def write(self, directory: Path, name: str) -> tuple[str, str]:
        """The names of the two files."""
        paths = directory / f"{name}.pem", directory / f"{name}.key"
        for path, content in zip(paths, (self.pem, self.key), strict=True):
            replace_file(path, content)
        return str(paths[0]), str(paths[1])


class Authority:
    """Signs whatever it is asked to."""

    def __init__(self, name: str = "tests", parent: "Authority | None" = None) -> None:
        self._parent = parent
        self.pair = self._make(_common_name(name), [], authority=True, lifetime=HOUR, usage=None, by=parent)

    @property
    def pem(self) -> bytes:
        return self.pair.certificate.public_bytes(Encoding.PEM)

    def issue(
        self,
        *names: x509.GeneralName,
        common_name: str | None = None,
        authority: bool = False,
        lifetime: timedelta = HOUR,
        usage: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.CLIENT_AUTH,
    ) -> Pair:
        subject = x509.Name([]) if common_name is None else _common_name(common_name)
        return self._make(subject, names, authority=authority, lifetime=lifetime, usage=usage, by=self)

    def workload(self, path: str, lifetime: timedelta = HOUR) -> Pair:
        """A client by its SPIFFE id in the trust domain of the tests."""
        return self.issue(URI(spiffe(path)), lifetime=lifetime)

    def server(self, *names: x509.GeneralName) -> Pair:
        local = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1")), *names]
        return self.issue(*local, usage=ExtendedKeyUsageOID.SERVER_AUTH)

    def _make(
        self,
        subject: x509.Name,
        names: Sequence[x509.GeneralName],
        *,
        authority: bool,
        lifetime: timedelta,
        usage: x509.ObjectIdentifier | None,
        by: "Authority | None",
    ) -> Pair:
        private = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(by.pair.certificate.subject if by else subject)
            .public_key(private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - HOUR)
            .not_valid_after(now + lifetime)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not subject.rdns)
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        certificate = builder.sign(by.pair.private if by else private, hashes.SHA256())
        between = (by.pair.certificate, *by.pair.signers) if by and by._parent else ()
        return Pair(certificate, private, between)


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def spiffe(path: str) -> str:
    return f"spiffe://nofx.test/{path}"


def replace_file(path: Path, content: bytes | str) -> None:
    """Put a file in place of another at once, as those do who renew certificates."""
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content if isinstance(content, bytes) else content.encode())
    new.replace(path)


def grant(spiffe_id: str, role: str, **fields: str | bool) -> str:
    """One table of a policy file."""
    values = {"spiffe_id": spiffe_id, "role": role} | fields
    shown = {name: str(value).lower() if isinstance(value, bool) else f'"{value}"' for name, value in values.items()}
    return "[[grant]]\n" + "".join(f"{name} = {value}\n" for name, value in shown.items() if value != '""')


ROLES_BY_NAME = "".join(grant(spiffe(role), role) for role in ("admin", "gateway", "engine", "viewer"))


@dataclass(frozen=True)
class MutualTls:
    """The files of a server with a listener for certificates, and clients for it."""

    directory: Path
    authority: Authority

    @classmethod
    def made_in(cls, directory: Path, policy: str = ROLES_BY_NAME) -> "MutualTls":
        made = cls(directory, Authority())
        made.authority.server().write(directory, "server")
        replace_file(directory / "ca.pem", made.authority.pem)
        made.write_policy(policy)
        return made

    def write_policy(self, text: str) -> None:
        replace_file(self.directory / "policy.toml", text)

    @property
    def settings(self) -> Mapping[str, str]:
        return {
            "NOFX_GRPC_TLS_CERT": str(self.directory / "server.pem"),
            "NOFX_GRPC_TLS_KEY": str(self.directory / "server.key"),
            "NOFX_GRPC_MTLS_CLIENT_CA": str(self.directory / "ca.pem"),
            "NOFX_GRPC_MTLS_POLICY": str(self.directory / "policy.toml"),
            "NOFX_GRPC_MTLS_LISTEN": "127.0.0.1:0",
        }

    def channel_credentials(self, pair: Pair | None) -> grpc.ChannelCredentials:
        """What a client shows; it trusts the authority."""
        ca = self.authority.pem
        return grpc.ssl_channel_credentials(ca, pair.key, pair.pem) if pair else grpc.ssl_channel_credentials(ca)
