"""What is said of settings that are wrong: where the value stands, what it is, and what was expected."""

import difflib
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from nofx_grpc.errors import SettingsError


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file holds.  Raises SettingsError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"the configuration file {path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise SettingsError(f"the configuration file {path} is not TOML: {error}") from error


def unknown(key: str, known: Iterable[str]) -> str:
    """Say that there is no such setting, and which one may have been meant."""
    nearest = difflib.get_close_matches(key.lower(), known, n=1, cutoff=0)
    return f"there is no setting {key!r}; the nearest is {nearest[0]!r}"


def problem(source: str, field: FieldInfo, detail: Mapping[str, Any]) -> str:
    """Put one of pydantic's errors into words; a secret's value is not shown."""
    if detail["input"] is None:
        found = "is not set"
    elif SecretStr in (field.annotation, *get_args(field.annotation)):
        found = "has a value that is not shown"
    else:
        found = f"has value {str(detail['input'])!r}"
    return f"{source} {found}: expected {_expected(field, detail)}"


def several_master_keys(where: Mapping[str, str]) -> list[str]:
    """Say that more than one setting says what the master key is; `where` tells where each setting stands."""
    found = [where[name] for name in ("data_encryption_key", "master_key_file", "master_key_command") if name in where]
    return [f"{' and '.join(found)} are set: the master key is taken from one of them, so set one"] if found[1:] else []


def check_command_line(value: str) -> str:
    """Return a command as it stands.  Raises ValueError unless it can be split into words."""
    try:
        words = shlex.split(value)
    except ValueError:
        words = []
    if not words:
        raise ValueError("a command and its arguments, with all quotes closed")
    return value


def _expected(field: FieldInfo, detail: Mapping[str, Any]) -> str:
    """Return what the field accepts: in the words of its own check, else from its type."""
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    if detail["type"] == "literal_error":
        return str(detail["ctx"]["expected"]).replace("'", "")
    bounds = {name: getattr(rule, name) for rule in field.metadata for name in ("ge", "le") if hasattr(rule, name)}
    if bounds:
        kind = "a whole number" if field.annotation is int else "a number"
        return f"{kind} from {bounds['ge']} to {bounds['le']}"
    return "a text in quotes"
