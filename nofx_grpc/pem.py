"""Certificates and private keys in PEM files."""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key


def certificates_in(pem: bytes) -> list[x509.Certificate]:
    """The certificates, one at least.  Raises ValueError, as the checks of settings do."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise ValueError("a PEM file with a certificate") from None


def belong_together(chain: bytes, key: bytes) -> bool:
    """Tell whether the key is that of the first certificate.

    One that is encrypted is not: nobody is there to type its password; nor is one of a kind that is not supported.
    """
    try:
        private = load_pem_private_key(key, password=None)
        return private.public_key() == certificates_in(chain)[0].public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):  # no key; an encrypted one; one of an odd curve
        return False
