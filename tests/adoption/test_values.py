"""Values of the wrong type, out of range or damaged: kept where the store can hold them, else repaired, the original
kept aside.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from nofx_grpc.store.adoption.source import NotUtf8
from nofx_grpc.store.adoption.values import Converted, to_flag, to_integer, to_number, to_text, to_time
from tests.support.adoption import Adopted
from tests.support.nofx_db import NofxDatabase

AdoptIt = Callable[[], Adopted]
NOON = datetime(2025, 11, 10, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("a\nb\tc", Converted("a\nb\tc")),
        ("", Converted("")),
        (None, Converted("d", "value_missing")),
        ("a\0b", Converted("ab", "nul_removed", lossy=True)),
        ("a\x1bb", Converted("a\x1bb", "control_characters")),
        ("\ufeffcode", Converted("\ufeffcode", "control_characters")),
        (7, Converted("7", "not_text")),
        (b"blob", Converted("blob", "not_text")),
        (b"\xff", Converted("\ufffd", "not_text", lossy=True)),
        (NotUtf8(b"x\xff\0"), Converted("x\ufffd", "not_utf8", lossy=True)),
    ],
)
def test_text(cell: Any, expected: Converted) -> None:
    assert to_text(cell, "d") == expected


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (0, (False, "", False)),
        (1, (True, "", False)),
        (2, (True, "", False)),
        (None, (True, "", False)),
        ("false", (False, "not_boolean", False)),
        ("TRUE", (True, "not_boolean", False)),
        ("perhaps", (True, "not_boolean", True)),
        (b"\xff", (True, "not_boolean", True)),
    ],
)
def test_flag(cell: Any, expected: tuple[bool, str, bool]) -> None:
    assert to_flag(cell, default=True) == expected


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (-5, Converted(-5)),
        (3.0, Converted(3, "not_integer")),
        ("12", Converted(12, "not_integer")),
        (None, Converted(9)),
        (2**31, Converted(9, "not_integer", lossy=True)),
        (3.5, Converted(9, "not_integer", lossy=True)),
        (float("inf"), Converted(9, "not_integer", lossy=True)),
        ("nan", Converted(9, "not_integer", lossy=True)),
        ("many", Converted(9, "not_integer", lossy=True)),
        (b"\xff", Converted(9, "not_integer", lossy=True)),
    ],
)
def test_integer(cell: Any, expected: Converted) -> None:
    assert to_integer(cell, 9) == expected


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (1, Converted(1.0)),
        (-0.5, Converted(-0.5)),
        ("1e3", Converted(1000.0, "not_number")),
        (None, Converted(0.0, "value_missing")),
        (float("inf"), Converted(0.0, "not_number", lossy=True)),
        ("NaN", Converted(0.0, "not_number", lossy=True)),
        (b"", Converted(0.0, "not_number", lossy=True)),
    ],
)
def test_number(cell: Any, expected: Converted) -> None:
    assert to_number(cell, 0.0) == expected


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("2025-11-10 12:00:00", Converted(NOON)),
        ("2025-11-10T12:00:00Z", Converted(NOON)),
        ("2025-11-10T20:00:00+08:00", Converted(NOON)),
        ("2025-11-10 12:00:00.5", Converted(NOON.replace(microsecond=500000))),
        ("2025-11-10 12:00:00 +0000 UTC m=+0.0012", Converted(NOON)),
        ("2025-11-10 20:00:00.000001 +0800 CST", Converted(NOON.replace(microsecond=1))),
        ("2025-11-10 12:00:00.123456789", Converted(NOON.replace(microsecond=123456), "time_converted", lossy=True)),
        (1762776000, Converted(NOON, "time_converted", lossy=True)),
        (None, Converted(NOON, "time_missing")),
        ("yesterday", Converted(NOON, "time_unreadable", lossy=True)),
        ("2025-13-45 99:00:00", Converted(NOON, "time_unreadable", lossy=True)),
        ("0001-01-01 00:00:00+23:59", Converted(NOON, "time_unreadable", lossy=True)),
        (1e300, Converted(NOON, "time_unreadable", lossy=True)),
        (float("inf"), Converted(NOON, "time_unreadable", lossy=True)),
        (b"\xff", Converted(NOON, "time_unreadable", lossy=True)),
    ],
)
def test_time(cell: Any, expected: Converted) -> None:
    assert to_time(cell, NOON) == expected


def test_a_time_that_may_be_missing_is_not_told() -> None:
    assert to_time(None, None) == Converted(None)


@pytest.mark.parametrize(
    ("column", "value", "code", "stored"),
    [
        ("initial_balance", float("inf"), "not_number", 0.0),
        ("initial_balance", -1.5, "value_out_of_range", -1.5),
        ("btc_eth_leverage", 126, "value_out_of_range", 126),
        ("altcoin_leverage", 0, "value_out_of_range", 0),
        ("altcoin_leverage", 2**40, "not_integer", 5),
        ("scan_interval_minutes", 0, "value_out_of_range", 0),
        ("name", b"blob name", "not_text", "blob name"),
        ("name", b"\xff\xfe", "not_text", "\ufffd\ufffd"),
        ("name", "a\0b", "nul_removed", "ab"),
        ("custom_prompt", "bell \x07", "control_characters", "bell \x07"),
        ("created_at", "never", "time_unreadable", ...),
        ("is_running", "maybe", "not_boolean", 0),
        ("scan_interval_minutes", 10_081, "value_out_of_range", 10_081),
        ("id", "t\n1", "key_not_addressable", "t\n1"),
        ("id", "ä" * 257, "key_not_addressable", "ä" * 257),
    ],
)
def test_odd_values_are_adopted_and_told(
    nofx: NofxDatabase, adopted: AdoptIt, column: str, value: object, code: str, stored: object
) -> None:
    nofx.complete_user()
    nofx.trader(**{"id": "odd", column: value})
    found = adopted()
    [row] = [row for row in found.table("traders") if row["id"] != "t1"]
    [problem] = [problem for problem in found.report.problems if problem.table == "traders"]
    assert (problem.code, problem.key) == (code, row["id"])
    if stored is not ...:
        assert row[column] == stored
    lossy = code in ("not_number", "time_unreadable", "not_boolean", "nul_removed") or stored in (5, "\ufffd\ufffd")
    assert bool(found.aside()) == lossy


def test_a_text_that_is_not_utf8_does_not_stop_the_adoption(nofx: NofxDatabase, adopted: AdoptIt) -> None:
    nofx.complete_user()
    nofx.connection.execute("UPDATE traders SET name = CAST(x'41ff42' AS TEXT)")
    nofx.connection.execute("UPDATE exchanges SET secret_key = CAST(x'ff' AS TEXT)")
    found = adopted()
    assert found.row("traders", "t1")["name"] == "A\ufffdB"
    assert [row["secret_key"] for row in found.table("exchanges") if row["user_id"] == "u1"] == [""]
    assert [p.code for p in found.report.problems if p.severity == "error"] == ["secret_not_text"]
    assert {content for *_, content in found.aside()} == {
        '{"name": {"base64": "Qf9C"}}',
        '{"secret_key": {"base64": "/w=="}}',
    }


def test_keys_that_become_one_are_not_both_adopted(nofx: NofxDatabase, adopted: AdoptIt) -> None:
    nofx.complete_user()
    nofx.trader(b"t1")
    found = adopted()
    assert [row["id"] for row in found.table("traders")] == ["t1"]
    assert [problem.code for problem in found.report.problems if problem.table == "traders"] == ["duplicate_key"]
