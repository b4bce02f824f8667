"""What names a certificate is for."""

from pathlib import Path

from nofx_grpc.errors import SettingsError


def names_of(path: Path) -> list[str]:
    """The host names and IP addresses that the first certificate of a PEM file is for.  Raises SettingsError."""
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    except (OSError, ValueError) as error:
        raise SettingsError(f"the certificate {path} cannot be read: {error}") from error
    # "*.example.org" is for any.example.org, too.
    hosts = [name.replace("*", "any", 1) for name in names.get_values_for_type(x509.DNSName)]
    return hosts + [str(address) for address in names.get_values_for_type(x509.IPAddress)]
