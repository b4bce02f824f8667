"""NOFX's config.json: which of its keys are taken into the system configuration, and as what.

Pure.  As in NOFX `registration_enabled` is never taken, and what is empty changes nothing; unlike in NOFX a missing key
changes nothing either.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from nofx_grpc.errors import InvalidArgument, Violation
from nofx_grpc.services import config_keys
from nofx_grpc.services.config_keys import JWT_SECRET, KNOWN
from nofx_grpc.v1.system_config_pb2 import (
    CONFIG_TYPE_BOOL,
    CONFIG_TYPE_INTEGER,
    CONFIG_TYPE_NUMBER,
    CONFIG_TYPE_STRING_LIST,
    ConfigType,
)

MOST_IGNORED = 100
_MOST_NAME_CHARACTERS = 128
_LEVERAGE = ("btc_eth_leverage", "altcoin_leverage")
_FIELD = "content"


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What a file sets, as text to be stored, and which of its keys are not taken, with the reason."""

    values: dict[str, str] = field(default_factory=dict, repr=False)
    ignored: list[tuple[str, str]] = field(default_factory=list)


def parse(content: bytes) -> ConfigFile:
    """Read a config.json; an empty one sets nothing.  Raises InvalidArgument with the path of each wrong value."""
    if not content.strip():
        return ConfigFile()
    found = ConfigFile()
    violations: list[Violation] = []
    for path, name, value in _items(_load(content)):
        if reason := _reason_to_ignore(name, value):
            found.ignored.append((_printable(path), reason))
            continue
        try:
            found.values[name] = config_keys.check(name, _text_of(name, value), field=f"{_FIELD}.{path}")
        except InvalidArgument as error:
            violations += error.violations
        except TypeError as error:
            violations.append(Violation(f"{_FIELD}.{path}", str(error)))
    if violations:
        raise InvalidArgument(*violations)
    return found


def _load(content: bytes) -> Mapping[str, Any]:
    try:
        loaded = json.loads(content.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise InvalidArgument(Violation(_FIELD, f"is not UTF-8 at byte {error.start}")) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidArgument(Violation(_FIELD, f"is not JSON: {error.msg} at {where}")) from None
    except (ValueError, RecursionError):  # a number of thousands of digits; thousands of nested brackets
        raise InvalidArgument(
            Violation(_FIELD, "is not JSON that can be read: a number or its depth is too large")
        ) from None
    if not isinstance(loaded, dict):
        raise InvalidArgument(Violation(_FIELD, "expected a JSON object, as NOFX's config.json"))
    return loaded


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _items(file: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Path, name of the key and value of everything in the file; leverages are nested one level deep."""
    for name, value in file.items():
        if name != "leverage" or value is None:
            # On the top level NOFX knows no leverages: they are unknown keys there.
            yield name, "" if name in _LEVERAGE else name, value
        elif isinstance(value, dict):
            for nested, leverage in value.items():
                yield f"leverage.{nested}", nested if nested in _LEVERAGE else "", leverage
        else:
            raise InvalidArgument(Violation(f"{_FIELD}.leverage", "expected an object with " + " and ".join(_LEVERAGE)))


def _reason_to_ignore(name: str, value: Any) -> str:
    """Why a key is not taken, or ''."""
    if name == "registration_enabled":
        return "is never taken from a file: set it with SetSystemConfig"
    if name not in KNOWN:
        return "is not a key that is taken from this place of the file"
    if value is None or (name in (JWT_SECRET, "default_coins") and value in ("", [])):
        return "is empty: what is stored stays"
    if name == JWT_SECRET and isinstance(value, str) and config_keys.is_published(value):
        return "has been published by NOFX: the stored one stays"
    return ""


def _text_of(name: str, value: Any) -> str:
    """A JSON value as the text of a key.  Raises TypeError saying which type is right."""
    type_, expected = _JSON_TYPES.get(KNOWN[name].type, (str, "a string"))
    if not isinstance(value, type_):  # true is an int to Python; its text will be none to the key
        raise TypeError(f"expected {expected}")
    return value if isinstance(value, str) else json.dumps(value)


def _printable(path: str) -> str:
    """A path that may be shown: JSON can hold what a string of an answer cannot."""
    return path[:_MOST_NAME_CHARACTERS].encode(errors="replace").decode()


_JSON_TYPES: Mapping[ConfigType.ValueType, tuple[Any, str]] = {
    CONFIG_TYPE_BOOL: (bool, "true or false"),
    CONFIG_TYPE_INTEGER: (int, "an integer"),
    CONFIG_TYPE_NUMBER: (int | float, "a number"),
    CONFIG_TYPE_STRING_LIST: (list, "an array of strings"),
}
