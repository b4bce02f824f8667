"""What an adoption found: counted, listed, and made into the JSON document that `--json` prints.

The document is stable: keys and codes are added, never renamed (docs/adoption.md lists them).  No secret is ever in it.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

from nofx_grpc.store.adoption.codes import CODES

FORMAT: Final = 1

Key = str | list[str]


class Severity(StrEnum):
    INFO = "info"  # as NOFX leaves it; nothing to be done
    WARNING = "warning"  # adopted, but worth a look
    ERROR = "error"  # not adopted, or not wholly: kept aside


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding.  `key` is the row's key in NOFX, a list where it has several parts; `detail` is for people."""

    severity: Severity
    code: str
    table: str
    key: Key
    detail: str


@dataclass(slots=True)
class TableCounts:
    """Rows of one table: every row that was read was adopted or set aside."""

    read: int = 0
    adopted: int = 0
    set_aside: int = 0


@dataclass(slots=True)
class SecretCounts:
    """Values of one secret column, by how NOFX had stored them."""

    encrypted: int = 0
    clear: int = 0
    empty: int = 0
    undecryptable: int = 0


@dataclass(frozen=True, slots=True)
class ClearFile:
    """A file that still holds secrets that whoever can read it can read."""

    path: str
    why: str


@dataclass(slots=True)
class Report:
    """The whole of it.  `values_set_aside` counts single values of rows that were adopted without them."""

    source: str = ""
    source_state: str = ""
    target: str = ""
    in_place: bool = False
    backup: str = ""
    seconds: float = 0.0
    tables: dict[str, TableCounts] = field(default_factory=dict)
    secrets: dict[str, SecretCounts] = field(default_factory=dict)
    values_set_aside: int = 0
    problems: list[Problem] = field(default_factory=list)
    files_with_clear_secrets: list[ClearFile] = field(default_factory=list)

    def add(self, severity: Severity, code: str, table: str, key: Key, detail: str = "") -> None:
        """Note a finding, by one of `CODES`."""
        if code not in CODES:
            raise KeyError(code)
        self.problems.append(Problem(severity, code, table, key, detail))

    def table(self, name: str) -> TableCounts:
        return self.tables.setdefault(name, TableCounts())

    def secret(self, table: str, column: str) -> SecretCounts:
        return self.secrets.setdefault(f"{table}.{column}", SecretCounts())

    def by_code(self) -> Iterator[tuple[str, list[Problem]]]:
        """The problems by code, the worst first."""
        groups: dict[str, list[Problem]] = {}
        for problem in self.problems:
            groups.setdefault(problem.code, []).append(problem)
        order = list(Severity)[::-1]
        yield from sorted(groups.items(), key=lambda group: (order.index(group[1][0].severity), group[0]))

    def as_json(self) -> dict[str, Any]:
        """The document of `--json`."""
        return {"format": FORMAT, "outcome": "adopted", **asdict(self)}
