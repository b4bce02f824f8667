"""One value of NOFX's database made into one that the store takes.

SQLite stores anything anywhere: a number in a text column, text in a date.  Each function answers the value to store
and, where that is not what was found, the code that the report has for it.  Pure.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from nofx_grpc.store.adoption.source import Cell, NotUtf8


class Converted(NamedTuple):
    """`code` is '' where nothing is to be told.  What is `lossy` is kept aside as it was."""

    value: Any
    code: str = ""
    lossy: bool = False

    def __repr__(self) -> str:
        return f"Converted({self.code!r})"  # the value may be secret


Convert = Callable[[Cell, Any], Converted]
"""Given a cell, and what stands for one that is NULL or cannot be used."""

INT32: Final = range(-(2**31), 2**31)
_FALSE: Final = {"0", "false", "f", "no", "off", ""}
_TRUE: Final = {"1", "true", "t", "yes", "on"}
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff]")

# What NOFX's driver may have written: SQL, RFC 3339, and Go's own "2025-11-10 02:00:05.123456789 +0000 UTC m=+0.01".
_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?"
    r" ?(Z|[+-]\d\d:?\d\d)?(?: [A-Z]{1,5}| [+-]\d\d(?:\d\d)?)?(?: m=\S+)?"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST, _LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def to_text(cell: Cell, default: str) -> Converted:
    """A text; what cannot be one is repaired as far as it goes."""
    if isinstance(cell, str):
        if _CONTROL.search(cell) is None:
            return Converted(cell)
        if "\0" in cell:
            return Converted(cell.replace("\0", ""), "nul_removed", lossy=True)
        return Converted(cell, "control_characters")
    if cell is None:
        return Converted(default, "value_missing")
    if isinstance(cell, bytes):
        return _bytes_to_text(cell)
    return Converted(str(cell), "not_text")


def to_flag(cell: Cell, default: bool) -> Converted:
    """True or False: any number but 0 is true, as NOFX's driver takes it."""
    if isinstance(cell, (int, float)):
        return Converted(cell != 0)
    if cell is None:
        return Converted(default)
    word = cell.strip().lower() if isinstance(cell, str) else ""
    if isinstance(cell, str) and word in _TRUE | _FALSE:
        return Converted(word in _TRUE, "not_boolean")
    return Converted(default, "not_boolean", lossy=True)


def to_integer(cell: Cell, default: int) -> Converted:
    """An integer that 32 bits can hold."""
    if cell is None:
        return Converted(default)
    number = cell if isinstance(cell, (int, float)) else _number(cell)
    if number is None or number != number or not float(number).is_integer() or int(number) not in INT32:
        return Converted(default, "not_integer", lossy=True)
    return Converted(int(number), "" if isinstance(cell, int) else "not_integer")


def to_number(cell: Cell, default: float) -> Converted:
    """A finite number.  SQLite stores NaN as NULL."""
    if cell is None:
        return Converted(default, "value_missing")
    number = cell if isinstance(cell, (int, float)) else _number(cell)
    if number is None or not abs(number) < float("inf"):
        return Converted(default, "not_number", lossy=True)
    return Converted(float(number), "" if isinstance(cell, (int, float)) else "not_number")


def to_time(cell: Cell, default: datetime | None) -> Converted:
    """A time in UTC; one without a zone is in UTC.  More than six fractional digits are cut off."""
    if cell is None:
        return Converted(default, "" if default is None else "time_missing")
    if isinstance(cell, str) and (match := _TIME.fullmatch(cell.strip())):
        return _parsed_time(match, cell, default)
    if isinstance(cell, (int, float)) and abs(cell) < 1e10:
        at = _EPOCH + timedelta(seconds=cell)
        if _EARLIEST < at < _LATEST:
            return Converted(at, "time_converted", lossy=True)
    return Converted(default, "time_unreadable", lossy=True)


def _parsed_time(match: re.Match[str], cell: str, default: datetime | None) -> Converted:
    date, time, fraction, zone = match.groups()
    try:
        at = datetime.fromisoformat(f"{date} {time}.{(fraction or '')[:6]:0<6}{zone or '+00:00'}").astimezone(UTC)
    except (ValueError, OverflowError):
        return Converted(default, "time_unreadable", lossy=True)
    if fraction and fraction[6:].strip("0"):
        return Converted(at, "time_converted", lossy=True)
    return Converted(at)


def _bytes_to_text(cell: bytes) -> Converted:
    if isinstance(cell, NotUtf8):
        return Converted(cell.decode(errors="replace").replace("\0", ""), "not_utf8", lossy=True)
    try:
        text = cell.decode()
    except UnicodeDecodeError:
        return Converted(cell.decode(errors="replace").replace("\0", ""), "not_text", lossy=True)
    return Converted(text.replace("\0", ""), "not_text", lossy="\0" in text)


def _number(cell: str | bytes) -> float | None:
    try:
        return float(cell.decode() if isinstance(cell, bytes) else cell)
    except (ValueError, OverflowError):
        return None
