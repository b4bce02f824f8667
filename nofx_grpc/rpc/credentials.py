"""What a caller shows: a bearer token, a client certificate, or both; and whether it calls from this machine."""

import ipaddress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc

from nofx_grpc.errors import InvalidArgument, Unauthenticated, Violation

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # quoted: generic in the stubs only


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """The certificate of a client, which TLS has verified: as PEM, with those that signed it, and its SPIFFE id."""

    leaf: bytes = field(repr=False)
    signers: bytes = field(repr=False)
    spiffe_id: str


@dataclass(frozen=True, slots=True)
class Credential:
    """What a caller has shown, and whether it came from this machine.

    Over the listener for certificates nobody counts as local: it is there for other machines, and whatever forwards
    their connections would make all of them local.
    """

    authorization: str | bytes | None = field(repr=False)
    local: bool
    certificate: PeerCertificate | None = None


def credential_of(context: Context) -> Credential:
    """What the caller shows.  Raises Unauthenticated if that is more than one token."""
    shown = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
    if len(shown) > 1:
        raise Unauthenticated("more than one credential: send the metadata 'authorization' once")
    certificate = _certificate_of(context)
    return Credential(shown[0] if shown else None, certificate is None and is_local(context.peer()), certificate)


def end_user_of(context: Context) -> str:
    """The address of whoever wants to log in, as the caller tells it in `nofx-end-user-address`; '' if it does not.

    Of IPv6 the network, because a household has 2^64 addresses.  Raises InvalidArgument.
    """
    key = "nofx-end-user-address"
    text = next((str(value) for name, value in context.invocation_metadata() or () if name == key), "")
    if not text:
        return ""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise InvalidArgument(Violation(key, "expected an IPv4 or IPv6 address, without a port")) from None
    if address.version == 4:
        return str(address)
    mapped = address.ipv4_mapped
    return str(mapped or ipaddress.ip_network((address.packed, 64), strict=False))


def is_local(peer: str) -> bool:
    """Whether a gRPC peer is on this machine: a Unix socket or a loopback address."""
    return peer.startswith(("unix:", "ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "ipv6:[::ffff:127."))


def _certificate_of(context: Context) -> PeerCertificate | None:
    """The client's certificate; none but on the listener that asks for one."""
    told = context.auth_context()
    leaf = b"".join(told.get("x509_pem_cert", ()))
    if not leaf:
        return None
    spiffe_id = b"".join(told.get("peer_spiffe_id", ())).decode(errors="replace")
    return PeerCertificate(leaf, b"".join(told.get("x509_pem_cert_chain", ())), spiffe_id)
