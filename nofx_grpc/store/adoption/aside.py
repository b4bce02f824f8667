"""What cannot be adopted as it is: sealed, written to the table `set_aside`, and reported."""

import json
from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from nofx_grpc.crypto.envelope import Envelope
from nofx_grpc.store import set_aside
from nofx_grpc.store.adoption.report import Key, Report, Severity
from nofx_grpc.store.adoption.source import Cell

_BATCH: Final = 1000


class Aside:
    """Keeps rows and values aside.  `flush` at the end."""

    def __init__(self, connection: Connection, envelope: Envelope, report: Report, now: datetime) -> None:
        self._connection, self._envelope, self._report, self._now = connection, envelope, report, now
        self._rows: list[dict[str, object]] = []
        self.count = 0

    def row(self, table: str, key: tuple[str, ...], code: str, row: Mapping[str, Cell], detail: str = "") -> None:
        """A whole row that is not adopted."""
        self._report.table(table).set_aside += 1
        self._report.add(Severity.ERROR, code, table, shown_key(key), detail)
        self.keep(table, key, code, row, detail)

    def value(
        self,
        table: str,
        key: tuple[str, ...],
        code: str,
        column: str,
        cell: Cell,
        *,
        severity: Severity = Severity.ERROR,
        detail: str = "",
    ) -> None:
        """A value of a row that is adopted without it."""
        self._report.values_set_aside += 1
        self._report.add(severity, code, table, shown_key(key), detail or column)
        self.keep(table, key, code, {column: cell}, detail or column)

    def keep(self, table: str, key: tuple[str, ...], code: str, content: Mapping[str, Cell], detail: str) -> None:
        """Seal and write, without a word in the report."""
        source_key = key_text(key)
        text = json.dumps({name: _plain(cell) for name, cell in content.items()}, ensure_ascii=False)
        sealed = self._envelope.seal(text, set_aside.location(table, source_key, code))
        fields = {"source_table": table, "source_key": source_key, "code": code, "detail": detail}
        self._rows.append({**fields, "content": sealed, "created_at": self._now})
        self.count += 1
        if len(self._rows) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what is collected."""
        if self._rows:
            set_aside.keep(self._connection, self._rows)
            self._rows = []


def key_text(key: tuple[str, ...]) -> str:
    """A key as `set_aside.source_key` has it: JSON where it has several parts."""
    return key[0] if len(key) == 1 else json.dumps(key, ensure_ascii=False)


def shown_key(key: tuple[str, ...]) -> Key:
    """A key as the report has it."""
    return key[0] if len(key) == 1 else list(key)


def _plain(cell: Cell) -> Any:
    """A cell as JSON can hold it: bytes, and numbers that JSON does not know, as an object that says what they are."""
    if isinstance(cell, bytes):
        return {"base64": b64encode(cell).decode("ascii")}
    if isinstance(cell, float) and not abs(cell) < float("inf"):
        return {"number": str(cell)}
    return cell
