"""A record's JSON: read with every check that Go's types make, and written as Go writes it."""

import json
import re
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, Final, NamedTuple, NoReturn

from nofx_grpc.analysis.actions import Action, make_action
from nofx_grpc.decisions.fields import RECORD, Field, Holds
from nofx_grpc.decisions.times import Moment, parse_time

MOST_BYTES: Final = 16 * 1024 * 1024  # of a record; more is no record, and would be dear to hold in memory
_MOST_NESTED: Final = 100  # levels; deeper ones could be read and not be written again
_CONTAINERS: Final = frozenset({dict, list})
_INT64: Final = range(-(2**63), 2**63)
DURATION: Final = range(-315_576_000_000_000, 315_576_000_000_001)  # milliseconds that a Duration can hold
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_NAMES: Final = frozenset(field.json for field in RECORD)

Content = dict[str, Any]


class NotARecord(ValueError):
    """What is wrong with a file that should be a record."""


class NotAllowed(NotARecord):
    """This process may not read the file."""


class Facts(NamedTuple):
    """What the index keeps of a record."""

    time_ns: int
    cycle_number: int
    success: bool
    total_balance: float
    unrealized_profit: float
    actions: list[Action]


def parse(data: bytes) -> Content:
    """The content of a record.  Raises NotARecord, saying what is wrong with it."""
    if not data.strip():
        raise NotARecord("it is empty")
    if len(data) > MOST_BYTES:
        raise NotARecord(f"it has {len(data)} bytes; a record has {MOST_BYTES} at most")
    content = _load(data)
    if not isinstance(content, dict):
        raise NotARecord("it is JSON, but no object")
    if not isinstance(content.get("timestamp"), str):
        raise NotARecord("it has no timestamp")
    if len(_NAMES & content.keys()) < 2:
        raise NotARecord("it has no field of a record but the timestamp")
    _check(content, RECORD, "")
    return content


def facts(content: Content) -> Facts:
    """What the index keeps of a content that `parse` has returned."""
    account = content.get("account_state") or {}
    return Facts(
        time_ns=_indexed(parse_time(content["timestamp"])),
        cycle_number=content.get("cycle_number") or 0,
        success=bool(content.get("success")),
        total_balance=float(account.get("total_balance") or 0),
        unrealized_profit=float(account.get("total_unrealized_profit") or 0),
        actions=[action for raw in content.get("decisions") or () if (action := _action(raw, content)) is not None],
    )


def dump(content: Mapping[str, Any]) -> bytes:
    """The JSON of a content, indented by two spaces.  Raises NotARecord if it is larger than a record can be."""
    parts, size = [], 0
    for part in json.JSONEncoder(ensure_ascii=False, indent=2, allow_nan=False).iterencode(content):
        size += len(part)
        if size > MOST_BYTES:  # said before all of it is made: indentation can be a hundred times what it indents
            break
        parts.append(part)
    body = "".join(parts).encode()
    if max(size, len(body)) > MOST_BYTES:
        raise NotARecord(f"as JSON it has more than {MOST_BYTES} bytes, which is the most that a record has")
    return body


def parse_object(text: str) -> Content:
    """A text that must be one JSON object.  Raises NotARecord."""
    content = _load(text.encode())
    if not isinstance(content, dict):
        raise NotARecord("is no JSON object")
    return content


def _load(data: bytes) -> Any:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise NotARecord(f"it is no UTF-8 at byte {error.start}") from None
    try:
        content = json.loads(text.removeprefix("\ufeff"), parse_constant=_refuse_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        ended = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
        what = "it is cut off" if ended else "it is no JSON"
        raise NotARecord(f"{what}: {error.msg} at line {error.lineno}") from None
    except RecursionError:
        raise NotARecord("it is nested too deeply") from None
    except ValueError as error:
        raise NotARecord(f"it has a number that no program keeps: {error}") from None
    if _is_nested_too_deeply(content):
        raise NotARecord("it is nested too deeply")
    return _without_surrogates(content) if _SURROGATE.search(data) else content


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError("it is larger than any double")
    return number


def _is_nested_too_deeply(content: Any) -> bool:
    level = [content] if type(content) in _CONTAINERS else []
    for _ in range(_MOST_NESTED):
        insides = (item.values() if isinstance(item, dict) else item for item in level)
        level = [value for inside in insides for value in inside if type(value) in _CONTAINERS]
        if not level:
            return False
    return True


def _without_surrogates(content: Any) -> Any:
    """The same, with U+FFFD for half a character, as Go reads it: it could not be written as UTF-8."""
    if isinstance(content, str):
        return content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(content, list):
        return [_without_surrogates(item) for item in content]
    if isinstance(content, dict):
        return {_without_surrogates(name): _without_surrogates(value) for name, value in content.items()}
    return content


def _check(content: Content, fields: tuple[Field, ...], path: str) -> None:
    for field in fields:
        value = content.get(field.json)
        if value is not None:
            _check_value(value, field, path + field.json)


def _check_value(value: Any, field: Field, path: str) -> None:
    match field.holds:
        case Holds.OBJECT:
            _check_object(value, field, path)
        case Holds.OBJECTS:
            for position, item in enumerate(_list(value, path)):
                _check_object(item, field, f"{path}[{position}]")
        case Holds.TEXTS:
            for position, item in enumerate(_list(value, path)):
                _require(isinstance(item, str), f"{path}[{position}]", "a text")
        case _:
            is_right, expected = _SCALARS[field.holds]
            _require(is_right(value), path, expected)


def _check_object(value: Any, field: Field, path: str) -> None:
    _require(isinstance(value, dict), path, "an object")
    _check(value, field.inside, f"{path}.")


def _list(value: Any, path: str) -> list[Any]:
    _require(isinstance(value, list), path, "a list")
    items: list[Any] = value
    return items


def _require(right: bool, path: str, expected: str) -> None:
    if not right:
        raise NotARecord(f"{path} is not {expected}")


def is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in _INT64


def is_number(value: Any) -> bool:
    """Whether a value is a number that a double can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return isfinite(float(value))
    except OverflowError:
        return False


def is_time(value: Any) -> bool:
    try:
        parse_time(value)
    except (TypeError, ValueError):
        return False
    return True


_SCALARS: Final[dict[Holds, tuple[Callable[[Any], bool], str]]] = {
    Holds.TEXT: (lambda value: isinstance(value, str), "a text"),
    Holds.FLAG: (lambda value: isinstance(value, bool), "true or false"),
    Holds.INTEGER: (is_integer, "a whole number of 64 bits"),
    Holds.NUMBER: (is_number, "a number"),
    Holds.TIME: (is_time, "a time of the years 1 to 9999 as in 2025-11-18T11:10:05.707586713+08:00"),
    Holds.MILLISECONDS: (lambda value: is_integer(value) and value in DURATION, "a number of milliseconds"),
}


def _indexed(moment: Moment) -> int:
    """The time as the index holds it; one before 1970 (Go's zero time) comes first, one too late last."""
    return min(max(moment.ns, 0), 2**63 - 1)


def _action(raw: Content, content: Content) -> Action | None:
    """What a successful action did to a position; None for any other."""
    if not raw.get("success"):
        return None
    at = parse_time(raw.get("timestamp") or content["timestamp"])
    if at.ns <= 0:  # Go's zero time, which stands for none
        at = parse_time(content["timestamp"])
    return make_action(
        raw.get("action") or "",
        raw.get("symbol") or "",
        float(raw.get("quantity") or 0),
        float(raw.get("price") or 0),
        raw.get("leverage") or 0,
        _indexed(at),
    )
