"""From the certificate that a client shows to what its name is good for."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from nofx_grpc.errors import Unauthenticated
from nofx_grpc.pem import certificates_in
from nofx_grpc.rpc.credentials import PeerCertificate
from nofx_grpc.rpc.policy import Policy, is_common_name, is_spiffe_id
from nofx_grpc.rpc.reloading import Reloading
from nofx_grpc.rpc.tls import TlsMaterial
from nofx_grpc.services.call import Identity

_REMEMBERED = 10_000
_MOST_SIGNERS = 8  # that a client may send with its certificate and are looked at
# What the parser says of certificates, or extensions, that TLS took and it does not.
_UNREADABLE = (ValueError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)


@dataclass(slots=True)
class Known:
    """A certificate that was looked into: its name, its end, or that of who has signed it, and by which material it was
    found to be vouched for.
    """

    name: str
    expires_at: datetime
    chain: list[x509.Certificate]
    vouched_by: TlsMaterial | None = None


class ClientCertificates:
    """Tells the identity behind a client's certificate.

    TLS verifies a certificate once, when a connection begins.  What may change while the connection is open is asked
    here for each call: the policy, the authorities, and whether the certificate has expired.
    """

    def __init__(self, tls: Reloading[TlsMaterial], policy: Reloading[Policy], clock: Callable[[], datetime]) -> None:
        self._tls, self._policy, self._clock = tls, policy, clock
        self._known: dict[PeerCertificate, Known] = {}

    def identify(self, shown: PeerCertificate) -> Identity:
        """The identity that the policy gives to the certificate's name.  Raises Unauthenticated."""
        known = self._known.get(shown) or self._look_into(shown)
        material = self._tls.value  # once: a thread puts another in its place at any moment
        if known.vouched_by is not material:
            until = vouched_for_until(known.chain, material.authorities)
            if until is None:
                raise Unauthenticated("nobody vouches for the certificate any more", principal=known.name)
            known.vouched_by, known.expires_at = material, until
        if known.expires_at <= self._clock():
            raise Unauthenticated("the certificate has expired", principal=known.name)
        identity = self._policy.value.grant_of(known.name) if known.name else None
        if identity is None:
            name = f"name {known.name!r}" if known.name else "lack of one SPIFFE id"
            raise Unauthenticated(f"the certificate's {name} gives it no rights here", principal=known.name)
        return identity

    def _look_into(self, shown: PeerCertificate) -> Known:
        try:
            chain = certificates_in(shown.leaf + b"\n" + shown.signers)
            known = Known(name_of(chain[0], shown.spiffe_id), chain[0].not_valid_after_utc, chain)
        except _UNREADABLE:
            raise Unauthenticated("the certificate cannot be read") from None
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[shown] = known
        return known


def name_of(certificate: x509.Certificate, spiffe_id: str) -> str:
    """The name that a certificate goes by: its SPIFFE id, ``cn:<common name>`` where it has no other names, or ''.

    `spiffe_id` is the one that TLS found.  It counts if it is the certificate's only URI and an id to the letter; that
    of an authority names its domain, and nobody who calls, and so does its common name.
    """
    if _is_authority(certificate):
        return ""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        common_name = str(found[0].value) if len(found) == 1 else ""
        return f"cn:{common_name}" if is_common_name(common_name) else ""
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return spiffe_id if uris == [spiffe_id] and is_spiffe_id(spiffe_id) else ""


def vouched_for_until(chain: list[x509.Certificate], authorities: tuple[x509.Certificate, ...]) -> datetime | None:
    """Until when a chain of certificates, which TLS has verified before, leads to one of these authorities; None if it
    does not.

    That is when the first one on the way expires; of several ways (an authority that was renewed, or cross-signed) the
    one that lasts longest counts.
    """
    path = [chain[0], *[by for by in chain[1 : 1 + _MOST_SIGNERS] if _is_authority(by)]]
    roots = [[by.not_valid_after_utc for by in authorities if _signed(each, by)] for each in path]
    signers = [[n for n, by in enumerate(path) if n and by is not each and _signed(each, by)] for each in path]
    until: list[datetime | None] = [None] * len(path)
    for _ in path:  # as many times as the longest way has steps
        for number, each in enumerate(path):
            ends = [*roots[number], *[end for signer in signers[number] if (end := until[signer]) is not None]]
            until[number] = min(each.not_valid_after_utc, max(ends)) if ends else None
    return until[0]


def _signed(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    if certificate == by:
        return True
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except (x509.ExtensionNotFound, *_UNREADABLE):
        return False
