"""Times as Go writes them into JSON: RFC 3339 with a zone and up to nine digits of a second."""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final, NamedTuple

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,30}))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
SECOND: Final = 1_000_000_000
# What a Timestamp of protobuf can hold, in UTC; a zone could lead a day beyond it.
_SECONDS: Final = range(-62_135_596_800, 253_402_300_800)
_POSSIBLE: Final = "a time between the years 1 and 9999, in UTC too"


class Moment(NamedTuple):
    """A time in nanoseconds since 1970 in UTC, and the zone that it is written in, in minutes east of UTC."""

    ns: int
    offset: int = 0


def parse_time(text: str) -> Moment:
    """The moment of a text.  Raises ValueError if it is no time of RFC 3339 between the years 1 and 9999 in UTC."""
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise ValueError("no time as in 2025-11-18T11:10:05.707586713+08:00")
    *calendar, fraction, sign, hours, minutes = found.groups()
    offset = (int(hours) * 60 + int(minutes)) * (-1 if sign == "-" else 1) if sign else 0
    if abs(offset) >= 24 * 60 or (sign and int(minutes) > 59):
        raise ValueError("no zone that there is")
    since = datetime(*map(int, calendar), tzinfo=UTC) - _EPOCH  # type: ignore[misc,arg-type] # six numbers
    seconds = since.days * 86400 + since.seconds - offset * 60
    if seconds not in _SECONDS:
        raise ValueError(f"not {_POSSIBLE}")
    return Moment(seconds * SECOND + int((fraction or "").ljust(9, "0")[:9]), offset)


def format_time(moment: Moment) -> str:
    """The text that Go writes.  Raises ValueError for a time before the year 1 or after the year 9999, be it in UTC."""
    seconds, nanos = divmod(moment.ns, SECOND)
    if seconds not in _SECONDS:
        raise ValueError(_POSSIBLE)
    try:
        local = (_EPOCH + timedelta(seconds=seconds)).astimezone(timezone(timedelta(minutes=moment.offset)))
    except OverflowError:
        raise ValueError(_POSSIBLE) from None
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    hours, minutes = divmod(abs(moment.offset), 60)
    zone = f"{'-' if moment.offset < 0 else '+'}{hours:02d}:{minutes:02d}" if moment.offset else "Z"
    return f"{local:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + fraction + zone
