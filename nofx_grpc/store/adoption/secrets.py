"""The secrets of NOFX's database: its ciphertexts opened, its clear values taken."""

from collections.abc import Callable
from typing import Final

from nofx_grpc.crypto.envelope import Envelope, Location
from nofx_grpc.crypto.nofx import PREFIX, NofxSecretDamaged, is_nofx_ciphertext, open_nofx
from nofx_grpc.errors import AdoptionError
from nofx_grpc.store.adoption.aside import Aside, shown_key
from nofx_grpc.store.adoption.report import Report, Severity
from nofx_grpc.store.adoption.source import Cell, NotUtf8, Source

# What NOFX encrypts: to find it in clear is worth telling.  One-time password secrets, URLs and the JWT secret it never
# encrypts.
ENCRYPTED_BY_NOFX: Final = {
    ("ai_models", "api_key"),
    ("exchanges", "api_key"),
    ("exchanges", "secret_key"),
    ("exchanges", "aster_private_key"),
}

_SHORTEST_CIPHERTEXT: Final = len(PREFIX) + 16 + 1 + 24  # base64 of a nonce, ':', base64 of an empty text's tag


def check_key(source: Source, key: bytes | None) -> None:
    """Raises AdoptionError if what NOFX encrypted cannot be opened because the key is missing or another one.

    A single value that does not open is no reason: it may be damaged, or a secret that only looks encrypted.
    """
    found = 0
    for text in source.texts_with_prefix(PREFIX):
        if key is None:
            raise AdoptionError(
                f"{source.path} holds encrypted secrets and DATA_ENCRYPTION_KEY is not set: set it to the value that "
                "NOFX ran with (it stands in NOFX's .env file)"
            )
        if _opens(text, key):
            return
        found += len(text) >= _SHORTEST_CIPHERTEXT
    if found > 1:
        raise AdoptionError(
            f"none of the {found} encrypted secrets in {source.path} opens under this DATA_ENCRYPTION_KEY: set it to "
            "the value that NOFX ran with (it stands in NOFX's .env file)"
        )


class SecretSealer:
    """Takes each secret value as NOFX has it, seals it for its place, and remembers it for the verification."""

    def __init__(
        self, envelope: Envelope, key: bytes | None, redacted_url: Callable[[str], str], report: Report, aside: Aside
    ) -> None:
        self._envelope, self._key, self._redacted_url = envelope, key, redacted_url
        self._report, self._aside = report, aside
        self.sealed: dict[Location, str] = {}

    def seal(self, where: Location, key: tuple[str, ...], cell: Cell, name: str = "") -> str:
        """The sealed text for a cell; '' if it is empty or cannot be opened, which is then kept aside and reported.

        `name` is what the column goes by in the report, where one column holds several secrets.
        """
        plaintext = self.read(where.table, where.column, key, cell, name or where.column)
        return self.put(where, plaintext, url=(name or where.column).endswith("_url"))

    def put(self, where: Location, plaintext: str, *, url: bool = False) -> str:
        """The sealed text for a secret in clear."""
        if plaintext:
            self.sealed[where] = plaintext
        return self._envelope.seal(plaintext, where, shown=self._redacted_url(plaintext) if url else "")

    def read(self, table: str, column: str, key: tuple[str, ...], cell: Cell, name: str) -> str:
        """The secret in clear; '' if there is none, or none that can be read."""
        counts = self._report.secret(table, name)
        text = _as_text(cell)
        if text is None:
            counts.undecryptable += 1
            self._aside.value(table, key, "secret_not_text", column, cell, detail=name)
            return ""
        if not text:
            counts.empty += 1
            return ""
        if not is_nofx_ciphertext(text):
            counts.clear += 1
            if (table, column) in ENCRYPTED_BY_NOFX:
                self._report.add(Severity.WARNING, "secret_in_clear", table, shown_key(key), name)
            return text
        opened = self.open(text)
        if opened is None:
            counts.undecryptable += 1
            self._aside.value(table, key, "secret_undecryptable", column, cell, detail=name)
            return ""
        counts.encrypted += 1
        if is_nofx_ciphertext(opened):
            # Opened once, as NOFX does: what comes out is what it used as the secret.
            self._report.add(Severity.WARNING, "secret_looks_encrypted", table, shown_key(key), name)
        return opened

    def open(self, text: str) -> str | None:
        """What NOFX encrypted, or None if it does not open."""
        try:
            return None if self._key is None else open_nofx(text, self._key)
        except NofxSecretDamaged:
            return None


def _as_text(cell: Cell) -> str | None:
    """A cell as text; None for bytes that are none."""
    if cell is None:
        return ""
    if isinstance(cell, NotUtf8):
        return None
    if isinstance(cell, bytes):
        try:
            return cell.decode()
        except UnicodeDecodeError:
            return None
    return cell if isinstance(cell, str) else str(cell)


def _shown(key: tuple[str, ...]) -> str | list[str]:
    return key[0] if len(key) == 1 else list(key)


def _opens(text: str, key: bytes) -> bool:
    try:
        open_nofx(text, key)
    except NofxSecretDamaged:
        return False
    return True
