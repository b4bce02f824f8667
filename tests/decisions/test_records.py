"""The form of records: whatever bytes a file has, it is a record or a NotARecord; what is a record loses nothing."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nofx_grpc.decisions.names import folded, plain_folder, spelt_folder, trader_of_folder
from nofx_grpc.decisions.records import NotARecord, dump, facts, parse
from nofx_grpc.decisions.times import Moment, format_time, parse_time
from nofx_grpc.services.decision_messages import to_content, to_proto
from tests.decisions.support import SAMPLE, record

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
DOUBLE = st.floats(allow_nan=False, allow_infinity=False)
INT64 = st.integers(-(2**63), 2**63 - 1)
YEAR_1, YEAR_9999 = -62_135_510_400, 253_402_214_400  # a day from the ends, for the zones
MOMENTS = st.builds(
    lambda seconds, nanos, offset: Moment(seconds * 10**9 + nanos, offset),
    st.integers(YEAR_1, YEAR_9999),
    st.integers(0, 10**9 - 1),
    st.integers(-1439, 1439),
)
TIME = MOMENTS.map(format_time)
JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | DOUBLE | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


def _object(**fields: Any) -> Any:
    """A JSON object with some of these fields, some null, and some that nobody knows."""
    known = st.fixed_dictionaries({}, optional={name: st.none() | value for name, value in fields.items()})
    extra = st.dictionaries(TEXT.map("x-{}".format), JSON, max_size=2)
    return st.builds(lambda one, two: one | two, known, extra)


RECORDS = st.builds(
    lambda at, number, rest: {"timestamp": at, "cycle_number": number} | rest,
    TIME,
    INT64,
    st.builds(
        lambda lists, rest: lists | rest,
        st.fixed_dictionaries(
            {
                "positions": st.none() | st.lists(_object(symbol=TEXT, side=TEXT, leverage=DOUBLE), max_size=2),
                "candidate_coins": st.none() | st.lists(TEXT, max_size=3),
                "decisions": st.none()
                | st.lists(
                    _object(
                        action=st.sampled_from(["open_long", "close_long", "wait"]),
                        symbol=TEXT,
                        quantity=DOUBLE,
                        leverage=INT64,
                        price=DOUBLE,
                        order_id=INT64,
                        timestamp=TIME,
                        success=st.booleans(),
                        error=TEXT,
                    ),
                    max_size=3,
                ),
                "execution_log": st.none() | st.lists(TEXT, max_size=2),
            }
        ),
        _object(
            account_state=_object(total_balance=DOUBLE, position_count=INT64),
            success=st.booleans(),
            cot_trace=TEXT,
            decision_json=TEXT,
            ai_request_duration_ms=st.integers(-(10**12), 10**12),
        ),
    ),
)


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_record_or_not(data: bytes) -> None:
    try:
        content = parse(data)
    except NotARecord as error:
        assert str(error)
    else:
        to_proto(content).SerializeToString()


@given(RECORDS)
def test_a_record_comes_back_as_it_was(content: dict[str, Any]) -> None:
    """Numbers to the last bit, nulls, times with their zones, and what this version does not know."""
    read = parse(json.dumps(content).encode())
    assert read == content
    facts(read)
    back = to_content(to_proto(read), Moment(0))
    assert parse(dump(back | {"cycle_number": content["cycle_number"]})) == content


@given(RECORDS, st.data())
def test_a_record_that_is_cut_off_is_none(content: dict[str, Any], data: st.DataObject) -> None:
    whole = json.dumps(content).encode()
    with pytest.raises(NotARecord):
        parse(whole[: data.draw(st.integers(0, len(whole) - 1))])


@pytest.mark.parametrize("path", sorted(SAMPLE.glob("*/*.json")), ids=lambda path: path.stem)
def test_the_sample_comes_back_as_it_was(path: Any) -> None:
    content = parse(path.read_bytes())
    back = to_content(to_proto(content), Moment(0)) | {"cycle_number": content["cycle_number"]}
    assert back == content and list(back) == list(content)


def test_half_a_character_becomes_the_mark_for_one() -> None:
    """As Go reads it; it could not be sent otherwise."""
    data = json.dumps(record(error_message="a\ud800b")).encode()
    assert to_proto(parse(data)).error_message == "a\ufffdb"


@pytest.mark.parametrize(("deep", "most"), [({"x": {}}, 97), ({"x": "\ud800"}, 98)])
def test_what_is_nested_too_deeply_is_no_record(deep: dict[str, Any], most: int) -> None:
    """As deep as may be it can be written again, a level deeper it is refused: never an error of the interpreter."""

    def nested(levels: int) -> bytes:
        extra: Any = deep
        for _ in range(levels):
            extra = [extra]
        return json.dumps(record(extra=extra)).encode()

    for levels in (10, most):
        content = parse(nested(levels))
        assert parse(dump(content)) == content and to_proto(content).extra_json
    for levels in (most + 1, 500, 900):
        with pytest.raises(NotARecord, match="nested too deeply"):
            parse(nested(levels))


@pytest.mark.parametrize("number", ["1e400", "-1e999999999", "9" * 400 + ".5"])
def test_a_number_beyond_a_double_is_refused(number: str) -> None:
    with pytest.raises(NotARecord, match="larger than any double"):
        parse(b'{"timestamp": "2025-11-18T10:00:00Z", "success": true, "x": ' + number.encode() + b"}")


def test_an_action_of_gos_zero_time_has_the_time_of_its_record() -> None:
    actions = [{"action": "close_long", "symbol": "BTC", "success": True, "timestamp": "0001-01-01T00:00:00Z"}]
    found = facts(parse(json.dumps(record(decisions=actions)).encode()))
    assert [action.time for action in found.actions] == [found.time_ns]


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+08:00", "9999-12-31T23:00:00-08:00"])
def test_a_time_that_no_timestamp_holds_is_refused_both_ways(at: str) -> None:
    with pytest.raises(NotARecord, match="timestamp is not a time"):
        parse(json.dumps(record(at=at)).encode())
    seconds, offset = (-62_135_596_801, 480) if at.startswith("0001") else (253_402_300_800, -480)
    with pytest.raises(ValueError, match="between the years 1 and 9999"):
        format_time(Moment(seconds * 10**9, offset))


def test_gos_zero_time_is_first_in_the_index() -> None:
    assert facts(parse(json.dumps(record(at="0001-01-01T00:00:00Z")).encode())).time_ns == 0


@given(MOMENTS)
def test_times_come_back(moment: Moment) -> None:
    assert parse_time(format_time(moment)) == moment


@pytest.mark.parametrize(
    "text",
    [
        *("", "2025-11-18", "2025-11-18T10:00:00", "2025-13-18T10:00:00Z", "2025-11-18T10:00:60Z"),
        *("٢025-11-18T10:00:00Z", "2025-11-18T10:00:00+24:00", "2025-11-18T10:00:00+01:60", "0000-01-01T00:00:00Z"),
    ],
)
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_time(text)


IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100) | st.text("aA./= ", min_size=1)


@given(IDS, IDS)
def test_folders_are_safe_and_nobody_elses(one: str, two: str) -> None:
    for id in (one, two):
        for folder in filter(None, (plain_folder(id), spelt_folder(id))):
            assert trader_of_folder(folder) == id
            assert all(part not in {"", ".", "..", ".pending"} and "\0" not in part for part in folder.split("/"))
            assert all(len(part.encode()) <= 255 for part in folder.split("/"))
    if one != two:
        assert folded(spelt_folder(one)) not in {folded(spelt_folder(two)), folded(plain_folder(two) or "")}
