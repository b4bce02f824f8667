"""The policy file: what the names in client certificates are good for.

Each grant is a table of its own:

    [[grant]]
    spiffe_id = "spiffe://nofx.example/engine/eu-1"     # this id, and no other
    role = "engine"

    [[grant]]
    spiffe_id = "spiffe://nofx.example/gateway/*"       # every id with further segments after it
    role = "gateway"
    user_id = "ada"                                     # the only user that it is good for

    [[grant]]
    common_name = "backup.example.org"                  # for a certificate that has no other names at all
    role = "admin"
    reveal = true                                       # an admin may read the secrets of users
    reveal_system = true                                # and of the system configuration

Of several that fit, the one for exactly this id counts, else the one with the longest prefix.
"""

import difflib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nofx_grpc.errors import SettingsError
from nofx_grpc.rpc.reloading import Reloading
from nofx_grpc.services.call import Identity
from nofx_grpc.services.roles import ROLES, permissions_of

# As the standard of SPIFFE ids has it; so there is one way only to write an id, and nothing to decode.
_SEGMENT = r"(?!\.\.?(?:/|$))[a-zA-Z0-9._-]+"
_ID = re.compile(rf"spiffe://[a-z0-9._-]{{1,255}}(?:/{_SEGMENT})+")
_PREFIX = re.compile(rf"(spiffe://[a-z0-9._-]{{1,255}}(?:/{_SEGMENT})*/)\*")
_MOST_ID_BYTES = 2048
_COMMON_NAME = re.compile(r"[a-zA-Z0-9._ -]{1,64}")
_MOST_USER_ID_BYTES = 512

_HEADER = re.compile(r"\s*\[\[\s*grant\s*\]\]\s*(?:#.*)?")


def is_spiffe_id(text: str) -> bool:
    """Whether this is the SPIFFE id of a workload, to the letter of the standard."""
    return len(text) <= _MOST_ID_BYTES and _ID.fullmatch(text) is not None


def is_common_name(text: object) -> bool:
    """Whether a certificate's common name can be one that is granted something."""
    return isinstance(text, str) and _COMMON_NAME.fullmatch(text) is not None


class Policy:
    """Who may do what, by the name in a certificate."""

    def __init__(self, grants: Mapping[str, Identity]) -> None:
        self._named = {name: grant for name, grant in grants.items() if not name.endswith("/*")}
        self._below = {name.removesuffix("*"): grant for name, grant in grants.items() if name.endswith("/*")}

    def grant_of(self, name: str) -> Identity | None:
        """What a certificate's SPIFFE id or ``cn:<common name>`` is good for; None if nothing was granted to it."""
        grant = self._named.get(name)
        if grant is None and name.startswith("spiffe:"):
            fitting = [prefix for prefix in self._below if name.startswith(prefix)]
            grant = self._below[max(fitting, key=len)] if fitting else None
        return grant and Identity(name, grant.role, grant.permissions, grant.user_id)


def policy_file(path: Path) -> Reloading[Policy]:
    """The policy of a file, kept current.  Raises SettingsError if it is none."""
    return Reloading("mtls_policy", [path], lambda: load_policy(path))


def load_policy(path: Path) -> Policy:
    """Raises SettingsError with every problem, one a line, each with the line of the file that it is about."""
    try:
        return parse_policy(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise SettingsError(f"the policy file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"the policy file {path} is not TOML: it is not UTF-8") from error


def parse_policy(text: str, path: str) -> Policy:
    """The policy that a text states.  Raises SettingsError as `load_policy` does."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"the policy file {path} is not TOML: {error}") from error
    except RecursionError:
        raise SettingsError(f"the policy file {path} is no policy: it is nested too deeply") from None
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if _HEADER.fullmatch(line)]
    tables = content.pop("grant", [])
    problems = [f"{path}:{_line_of(key, lines, 0)}: {_unknown(key, ['grant'])}" for key in content]
    if not isinstance(tables, list) or len(tables) != len(starts):
        problems.append(f"{path}: write each grant as a table of its own, under a line [[grant]]")
        tables, starts = [], []
    elif not tables:  # a file that lost its content must not pass for a policy
        problems.append(f"{path}: there is no [[grant]] in it")
    ends = [*starts[1:], len(lines)][: len(starts)]
    grants = [Grant(t, start, lines[start:end]) for t, start, end in zip(tables, starts, ends, strict=True)]
    found = [problem for grant in grants for problem in grant.problems()]
    problems += [f"{path}:{line}: {problem}" for line, problem in [*found, *_repeated(grants)]]
    if problems:
        raise SettingsError("\n".join(problems))
    return Policy({grant.name: grant.identity() for grant in grants})


@dataclass(frozen=True, slots=True)
class Grant:
    """One table of the file, and where it stands in it."""

    table: Mapping[str, Any]
    start: int
    lines: list[str]

    @property
    def header(self) -> int:
        """The number of its first line, as editors count."""
        return self.start + 1

    @property
    def name(self) -> str:
        """What the policy knows it by."""
        return str(self.table.get("spiffe_id") or f"cn:{self.table.get('common_name')}")

    def identity(self) -> Identity:
        role, user_id = self.table["role"], self.table.get("user_id", "")
        flags = {name: self.table.get(name, False) for name in ("reveal", "reveal_system")}
        return Identity(self.name, role, permissions_of(role, **flags), user_id)

    def problems(self) -> Iterator[tuple[int, str]]:
        """What is wrong with it, and in which line."""
        for key, value in self.table.items():
            if key not in _KEYS:
                yield self.line_of(key), _unknown(key, list(_KEYS))
            elif problem := _KEYS[key](value):
                yield self.line_of(key), f"{key} has value {value!r}: expected {problem}"
        if ("spiffe_id" in self.table) == ("common_name" in self.table):
            yield self.header, "a grant needs one of spiffe_id and common_name"
        if "role" not in self.table:
            yield self.header, f"a grant needs a role: {_WORDS}"
        elif self.table["role"] in ROLES and self.table["role"] != "admin":
            for flag in ("reveal", "reveal_system"):
                if self.table.get(flag) is True:
                    yield self.line_of(flag), f"{flag} is for the role admin only: what other roles may read is fixed"

    def line_of(self, key: str) -> int:
        return _line_of(key, self.lines, self.start)


def _repeated(grants: list[Grant]) -> Iterator[tuple[int, str]]:
    first: dict[str, int] = {}
    for grant in grants:
        if first.setdefault(grant.name, grant.header) != grant.header:
            yield grant.header, f"a second grant for {grant.name}: the first one is in line {first[grant.name]}"


def _line_of(key: str, lines: list[str], start: int) -> int:
    """The number in the file of the line with a key; of these lines' first, which is at `start`, if there is none."""
    of_key = re.compile(rf"\s*\[*\s*[\"']?{re.escape(key)}[\"']?\s*[=.\]]")
    return next((start + number for number, line in enumerate(lines, 1) if of_key.match(line)), start + 1)


def _unknown(key: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0)
    return f"there is no {key!r}; the nearest is {nearest[0]!r}"


_WORDS = ", ".join(ROLES[:-1]) + f" or {ROLES[-1]}"


def _spiffe_id(value: object) -> str:
    if isinstance(value, str) and (is_spiffe_id(value) or (len(value) <= _MOST_ID_BYTES and _PREFIX.fullmatch(value))):
        return ""
    return (
        "spiffe://trust-domain/path to the letter, or with /* at its end all ids below; "
        "the trust domain in lower case, segments of a-z, A-Z, 0-9, '.', '_' and '-'"
    )


def _common_name(value: object) -> str:
    return "" if is_common_name(value) else "1 to 64 of a-z, A-Z, 0-9, '.', '_', '-' and blanks"


def _user_id(value: object) -> str:
    good = isinstance(value, str) and value and len(value.encode()) <= _MOST_USER_ID_BYTES and value.isprintable()
    return "" if good else "the id of a user; leave it out for all users"


def _switch(value: object) -> str:
    return "" if isinstance(value, bool) else "true or false"


def _role(value: object) -> str:
    return "" if value in ROLES else _WORDS


_KEYS: Mapping[str, Callable[[object], str]] = {
    "spiffe_id": _spiffe_id,
    "common_name": _common_name,
    "role": _role,
    "user_id": _user_id,
    "reveal": _switch,
    "reveal_system": _switch,
}
