"""The report: its codes are documented, and only documented ones are used."""

import re
from pathlib import Path

import pytest

from nofx_grpc.store.adoption.codes import CODES
from nofx_grpc.store.adoption.report import Report, Severity

ROOT = Path(__file__).parents[2]


def test_every_code_is_documented() -> None:
    documented = re.findall(r"^\| `(\w+)` \| (.*) \|$", (ROOT / "docs/adoption.md").read_text(), re.MULTILINE)
    codes = documented[-len(CODES) :]
    assert dict(codes) == CODES


def test_every_code_is_used() -> None:
    sources = "".join(
        path.read_text() for path in (ROOT / "nofx_grpc/store/adoption").glob("*.py") if path.stem != "codes"
    )
    assert [code for code in CODES if f'"{code}"' not in sources] == []


def test_another_code_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        Report().add(Severity.INFO, "typing_error", "users", "u1")


def test_the_worst_problems_come_first() -> None:
    report = Report()
    for severity, code in (
        (Severity.INFO, "not_text"),
        (Severity.ERROR, "key_missing"),
        (Severity.WARNING, "not_utf8"),
    ):
        report.add(severity, code, "users", "u1")
    assert [code for code, _ in report.by_code()] == ["key_missing", "not_utf8", "not_text"]
