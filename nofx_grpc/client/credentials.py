"""What a client shows to the server: a bearer token, and certificates.  None of it is ever shown to anybody else."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import grpc

from nofx_grpc.client.errors import ClientSettingsError

_TOKEN = re.compile(r"[\x21-\x7e]+")


class Token(Protocol):
    """A bearer token; its repr does not show it.  `may_change` tells whether it may be another one later."""

    may_change: bool

    def header(self) -> str:
        """The value of the metadata `authorization`."""
        ...


class GivenToken:
    """A token that stays the same."""

    may_change = False

    def __init__(self, text: str) -> None:
        self._header = _header(text, "token")

    def header(self) -> str:
        return self._header

    def __repr__(self) -> str:
        return "<hidden>"


class TokenFile:
    """A token in a file, read again whenever the file changes.

    A file that is missing, empty or half-written while the token is being replaced does not count: the token from
    before is used until there is a new one.
    """

    may_change = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._stamp = self._stamp_now()
        self._header = _header(
            _read(self._path, "token_file").decode(errors="replace"), f"token_file {os.fspath(path)!r}"
        )

    def header(self) -> str:
        stamp = self._stamp_now()
        if stamp is not None and stamp != self._stamp:
            try:
                self._header = _header(self._path.read_text(encoding="ascii"), "")
            except (OSError, ValueError):
                return self._header  # and look again at the next call
            self._stamp = stamp
        return self._header

    def _stamp_now(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def __repr__(self) -> str:
        return f"<from {self._path}>"


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: who may vouch for the server (by default whom this system trusts), and the client's certificate."""

    ca_file: str | os.PathLike[str] | None = None
    cert_file: str | os.PathLike[str] | None = None
    key_file: str | os.PathLike[str] | None = None

    def __bool__(self) -> bool:
        return any((self.ca_file, self.cert_file, self.key_file))

    def credentials(self) -> grpc.ChannelCredentials:
        """What gRPC makes of them.  Raises ClientSettingsError if a file cannot be read or one of a pair is missing."""
        if bool(self.cert_file) != bool(self.key_file):
            raise ClientSettingsError("client_cert_file and client_key_file belong together: one of them is missing")
        ca = _read(self.ca_file, "ca_file") if self.ca_file else None
        cert = _read(self.cert_file, "client_cert_file") if self.cert_file else None
        key = _read(self.key_file, "client_key_file") if self.key_file else None
        return grpc.ssl_channel_credentials(ca, key, cert)


def _header(text: str, name: str) -> str:
    """The header of a token.  Raises ClientSettingsError, which does not show what was found instead."""
    if not _TOKEN.fullmatch(text.strip()):
        raise ClientSettingsError(f"{name}: expected a token, which is printable ASCII without blanks")
    return f"Bearer {text.strip()}"


def _read(path: str | os.PathLike[str], name: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ClientSettingsError(f"{name} {os.fspath(path)!r} cannot be read: {error.strerror}") from error
