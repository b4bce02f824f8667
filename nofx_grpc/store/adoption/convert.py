"""One table's rows: read, converted, their secrets sealed; what has no key, no owner or a key twice is set aside."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from nofx_grpc.crypto.envelope import Location
from nofx_grpc.crypto.nofx import is_nofx_ciphertext
from nofx_grpc.store.adoption.aside import Aside, shown_key
from nofx_grpc.store.adoption.report import Report, Severity
from nofx_grpc.store.adoption.rows import NOW, Column, Row, TableSpec
from nofx_grpc.store.adoption.rules import Progress
from nofx_grpc.store.adoption.secrets import SecretSealer
from nofx_grpc.store.adoption.source import Cell, Source
from nofx_grpc.store.adoption.values import Converted, to_text
from nofx_grpc.store.tables import SECRET_COLUMNS

_PROGRESS_ROWS = 500
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_MOST_ID_BYTES = 512

# Told, but nothing that was found is lost by it.
_INFO = {"time_missing", "not_integer", "not_number", "not_boolean", "not_text"}


class Converter:
    """Reads the tables of a source into rows for the store."""

    def __init__(
        self, source: Source, sealer: SecretSealer, report: Report, aside: Aside, now: datetime, progress: Progress
    ) -> None:
        self._source, self._sealer, self._report, self._aside = source, sealer, report, aside
        self._now, self._progress = now, progress
        self._seen: dict[str, set[tuple[str, ...]]] = {}

    def rows(self, spec: TableSpec, users: set[str], *, table: str = "") -> Iterator[Row]:
        """The rows of a table, or of the one named `table` that has the same columns, that can be adopted."""
        name = table or spec.name
        if name not in self._source.tables:
            if not table:
                self._report.add(Severity.WARNING, "table_missing", name, "")
            return
        self._tell_columns(spec, name)
        total = self._source.count(name)
        self._progress(name, 0, total)
        for number, original in enumerate(self._source.rows(name), start=1):
            self._report.table(name).read += 1
            row = self._row(spec, name, number, original, users)
            if row is not None:
                yield row
            if number % _PROGRESS_ROWS == 0 or number == total:
                self._progress(name, number, total)

    def _row(self, spec: TableSpec, name: str, number: int, original: dict[str, Cell], users: set[str]) -> Row | None:
        key, user_id = self._text_of(spec, spec.key, original), self._text_of(spec, ("user_id",), original)
        if not all(key):
            self._aside.row(name, (f"row {number}",), "key_missing", original)
            return None
        if spec.owned and user_id[0] not in users:
            self._aside.row(name, key, "owner_missing", original, f"there is no user {user_id[0]!r}")
            return None
        seen = self._seen.setdefault(spec.name, set())
        if key in seen:
            self._aside.row(name, key, "duplicate_key", original, "another row with this key was adopted")
            return None
        seen.add(key)
        values = {column.name: self._value(spec, name, column, key, original) for column in spec.columns}
        self._keep_unknown(spec, name, key, original)
        return Row(key, values, original)

    def _text_of(self, spec: TableSpec, names: tuple[str, ...], original: Mapping[str, Cell]) -> tuple[str, ...]:
        """Columns of the key as text, without a word in the report: `_value` has it."""
        defaults = {column.name: column.null for column in spec.columns}
        return tuple(to_text(original.get(name), str(defaults.get(name) or "")).value for name in names)

    def _value(
        self, spec: TableSpec, name: str, column: Column, key: tuple[str, ...], original: Mapping[str, Cell]
    ) -> Any:
        if column.name not in original:
            return self._now if column.absent is NOW else column.absent
        cell = original[column.name]
        if (spec.name, column.name) in SECRET_COLUMNS:
            return cell if spec.name == "system_config" else self._sealed(spec, column, key, original)
        if column.name not in spec.key:
            cell = self._opened(name, column.name, key, cell)
        found = column.convert(cell, self._now if column.null is NOW else column.null)
        if found.code and (found.code != "value_missing" or column.required):
            self._tell(name, column.name, key, cell, found)
        if column.name in (*spec.key, "user_id") and not is_addressable(found.value):
            self._report.add(Severity.WARNING, "key_not_addressable", name, shown_key(key), column.name)
        return found.value

    def text(self, table: str, column: str, key: tuple[str, ...], cell: Cell) -> str:
        """A single value as text, with what there is to tell of it in the report."""
        cell = self._opened(table, column, key, cell)
        found = to_text(cell, "")
        if found.code:
            self._tell(table, column, key, cell, found)
        return str(found.value)

    def _sealed(self, spec: TableSpec, column: Column, key: tuple[str, ...], original: Mapping[str, Cell]) -> str:
        where = secret_location(spec, column.name, dict(zip(spec.key, key, strict=True)), original)
        return self._sealer.seal(where, key, original[column.name])

    def _opened(self, table: str, column: str, key: tuple[str, ...], cell: Cell) -> Cell:
        """A ciphertext where no secret belongs: what is in it, if it opens; anything else as it is."""
        if not isinstance(cell, str) or not is_nofx_ciphertext(cell):
            return cell
        opened = self._sealer.open(cell)
        if opened is None:
            self._report.add(Severity.WARNING, "text_looks_encrypted", table, shown_key(key), column)
            return cell
        self._report.add(Severity.INFO, "text_was_encrypted", table, shown_key(key), column)
        return opened

    def _tell(self, table: str, column: str, key: tuple[str, ...], cell: Cell, found: Converted) -> None:
        if found.lossy:
            self._aside.value(table, key, found.code, column, cell, severity=Severity.WARNING)
            return
        severity = Severity.INFO if found.code in _INFO else Severity.WARNING
        self._report.add(severity, found.code, table, shown_key(key), column)

    def _tell_columns(self, spec: TableSpec, name: str) -> None:
        present = self._source.tables[name]
        for column in spec.missing(present):
            self._report.add(Severity.INFO, "column_missing", name, "", f"{column}: its default was taken")
        for column in spec.unknown(present):
            self._report.add(Severity.WARNING, "unknown_column", name, "", f"{column}: its values were set aside")

    def _keep_unknown(self, spec: TableSpec, name: str, key: tuple[str, ...], original: Mapping[str, Cell]) -> None:
        unknown = {
            column: cell for column, cell in original.items() if column not in spec.names and cell not in (None, "")
        }
        if unknown:
            self._report.values_set_aside += len(unknown)
            self._aside.keep(name, key, "unknown_column", unknown, ", ".join(unknown))


def secret_location(spec: TableSpec, column: str, key: Mapping[str, str], original: Mapping[str, Cell]) -> Location:
    """Where a row's secret is sealed for: the user, and the row's id where the user alone is not the key."""
    if spec.name == "users":
        return Location(spec.name, column, key["id"], "")
    user_id = key.get("user_id") or to_text(original.get("user_id"), "default").value
    return Location(spec.name, column, user_id, key.get("id", ""))


def is_addressable(id: str) -> bool:
    """Whether the API takes this in a request as an id."""
    return _CONTROL.search(id) is None and len(id.encode()) <= _MOST_ID_BYTES
