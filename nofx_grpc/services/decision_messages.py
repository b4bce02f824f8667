"""Decision records: the content of their JSON, and the message of the proto."""

import json
from collections.abc import Iterable, Mapping
from math import copysign, isfinite
from typing import Any, Final, cast

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from nofx_grpc.decisions.fields import PROPOSED, RECORD, Field, Holds
from nofx_grpc.decisions.records import DURATION, Content, NotARecord, is_number, parse_object
from nofx_grpc.decisions.times import SECOND, Moment, format_time, parse_time
from nofx_grpc.errors import InvalidArgument, Violation
from nofx_grpc.v1 import decision_logs_pb2 as pb

LONG: Final = frozenset({"system_prompt", "input_prompt", "cot_trace", "decision_json", "raw_response"})
_MOST_PROPOSED: Final = 500  # decisions that a model can mean; a text of more is shown as text only
_MOST_PROPOSED_CHARACTERS: Final = 256 * 1024
_MS: Final = 1_000_000
_EXACT: Final = 2.0**53


def to_proto(content: Content, view: pb.DecisionView.ValueType = pb.DECISION_VIEW_FULL) -> pb.Decision:
    """The message of a record's content, without its place."""
    message = pb.Decision()
    left_out = LONG if view == pb.DECISION_VIEW_BASIC else frozenset()
    _fill(message, content, RECORD, left_out)
    message.proposed_actions.extend(proposed_actions(content.get("decision_json") or ""))
    return message


def proposed_actions(decision_json: str) -> list[pb.ProposedAction]:
    """What a model decided, as far as its words are a list of decisions, and not a very long one; else nothing."""
    if len(decision_json) > _MOST_PROPOSED_CHARACTERS:
        return []
    try:
        rows = parse_object(f'{{"all": {decision_json}\n}}')["all"] if decision_json.strip() else []
    except NotARecord:
        return []
    if not isinstance(rows, list) or len(rows) > _MOST_PROPOSED or not all(_is_proposed(row) for row in rows):
        return []
    actions = []
    for row in rows:
        action = pb.ProposedAction()
        _fill(action, row, PROPOSED, frozenset())
        actions.append(action)
    return actions


def to_content(message: pb.Decision, now: Moment) -> Content:
    """The content of a new record, all but its cycle number.  Raises InvalidArgument, naming each field."""
    wrong: list[Violation] = []
    content: Content = {}
    _collect(content, message, RECORD, "decision.", wrong)
    if not message.HasField("time"):
        content.pop("timestamp", None)  # it may be among the nulls
        content = {"timestamp": format_time(now._replace(offset=message.utc_offset_minutes))} | content
    if not message.HasField("decision_json") and message.proposed_actions:
        content["decision_json"] = _decision_json(message.proposed_actions, wrong)
    if wrong:
        raise InvalidArgument(*wrong)
    return content


def _is_proposed(row: Any) -> bool:
    return isinstance(row, dict) and all(
        row.get(field.json) is None
        or (isinstance(row[field.json], str) if field.holds is Holds.TEXT else is_number(row[field.json]))
        for field in PROPOSED
    )


# ---- from the JSON


def _fill(message: Message, content: Content, fields: tuple[Field, ...], left_out: frozenset[str]) -> None:
    known = {field.json for field in fields}
    extra = {name: value for name, value in content.items() if name not in known}
    if extra:
        _set(message, "extra_json", json.dumps(extra, ensure_ascii=False))
    for field in fields:
        value = content.get(field.json)
        if value is not None and field.json not in left_out:
            _fill_field(message, field, value)
        elif field.json in content and value is None and "null_fields" in message.DESCRIPTOR.fields_by_name:
            _get(message, "null_fields").append(field.json)


def _fill_field(message: Message, field: Field, value: Any) -> None:
    match field.holds:
        case Holds.TIME:
            moment = parse_time(value)
            _get(message, field.proto).CopyFrom(_timestamp(moment.ns))
            if moment.offset:
                _set(message, "utc_offset_minutes", moment.offset)
        case Holds.MILLISECONDS:
            # Of the same sign, as a Duration wants them.
            seconds, rest = divmod(abs(value), 1000)
            sign = -1 if value < 0 else 1
            _get(message, field.proto).CopyFrom(Duration(seconds=sign * seconds, nanos=sign * rest * _MS))
        case Holds.OBJECT:
            inner = _get(message, field.proto)
            inner.SetInParent()
            _fill(inner, value, field.inside, frozenset())
        case Holds.OBJECTS:
            for item in value:
                _fill(_get(message, field.proto).add(), item, field.inside, frozenset())
        case Holds.TEXTS:
            _get(message, field.proto).extend(value)
        case _:
            _set(message, field.proto, value)


def _timestamp(ns: int) -> Timestamp:
    seconds, nanos = divmod(ns, SECOND)
    return Timestamp(seconds=seconds, nanos=nanos)


# ---- to the JSON


def _collect(content: Content, message: Message, fields: tuple[Field, ...], path: str, wrong: list[Violation]) -> None:
    """Put into `content` what the message says, in the order of the fields, and into `wrong` what cannot be."""
    nulls = set(_get(message, "null_fields")) if "null_fields" in message.DESCRIPTOR.fields_by_name else set()
    known = {field.json for field in fields}
    if unknown := nulls - known:
        wrong.append(Violation(f"{path}null_fields", f"names {sorted(unknown)[0]!r}, which is no field of the JSON"))
    for field in fields:
        _collect_field(content, message, field, path, wrong)
        if field.json in nulls and content.get(field.json) in (None, []):
            content[field.json] = None
    content |= _extra(_get(message, "extra_json"), known, f"{path}extra_json", wrong)


def _collect_field(content: Content, message: Message, field: Field, path: str, wrong: list[Violation]) -> None:
    value = _get(message, field.proto)
    where = f"{path}{field.proto}"
    match field.holds:
        case Holds.OBJECTS:
            items = [_object(item, field, f"{where}[{n}].", wrong) for n, item in enumerate(value)]
            if items or field.always:
                content[field.json] = items
        case Holds.TEXTS:
            if value or field.always:
                content[field.json] = list(value)
        case _ if field.json == "cycle_number":
            content["cycle_number"] = 0  # its place; the number is the service's to give
        case _ if not message.HasField(field.proto):
            pass
        case Holds.OBJECT:
            content[field.json] = _object(value, field, f"{where}.", wrong)
        case _:
            content[field.json] = _scalar(value, field, _get_or(message, "utc_offset_minutes"), where, wrong)


def _object(message: Message, field: Field, path: str, wrong: list[Violation]) -> Content:
    content: Content = {}
    _collect(content, message, field.inside, path, wrong)
    return content


def _scalar(value: Any, field: Field, offset: int, where: str, wrong: list[Violation]) -> Any:
    match field.holds:
        case Holds.TIME:
            return _time_text(value, offset, where, wrong)
        case Holds.MILLISECONDS:
            milliseconds = value.seconds * 1000 + int(value.nanos / _MS)
            if milliseconds not in DURATION:
                wrong.append(Violation(where, "must be a duration of at most 10,000 years"))
            return milliseconds
        case Holds.NUMBER:
            if not isfinite(value):
                wrong.append(Violation(where, "must be a number, which JSON can hold: not NaN and not infinite"))
            return _plain(value)
        case _:
            return value


def _plain(value: float) -> float:
    """The number as Go writes it: without a fraction that is none."""
    exact = isfinite(value) and value.is_integer() and abs(value) < _EXACT
    return int(value) if exact and (value or copysign(1, value) > 0) else value


def _time_text(value: Timestamp, offset: int, where: str, wrong: list[Violation]) -> str:
    moment = Moment(value.seconds * SECOND + value.nanos, offset)
    try:
        if not 0 <= value.nanos < SECOND:
            raise ValueError("nanos from 0 to 999,999,999")
        return format_time(moment)
    except ValueError as error:
        wrong.append(Violation(where, f"must be {error}"))
        return ""


def _extra(text: str, known: set[str], where: str, wrong: list[Violation]) -> Content:
    if not text:
        return {}
    try:
        extra = parse_object(text)
    except NotARecord as error:
        wrong.append(Violation(where, f"must be the text of a JSON object: {error}"))
        return {}
    if taken := extra.keys() & known:
        wrong.append(Violation(where, f"holds {sorted(taken)[0]!r}, which has a field of its own"))
    return extra


def _decision_json(actions: Iterable[pb.ProposedAction], wrong: list[Violation]) -> str:
    rows: list[Mapping[str, Any]] = []
    for position, action in enumerate(actions):
        row: Content = {}
        _collect(row, action, PROPOSED, f"decision.proposed_actions[{position}].", wrong)
        rows.append(row)
    return "" if wrong else json.dumps(rows, ensure_ascii=False, indent=2, allow_nan=False)


# The messages have no common type that knows their fields.


def _get(message: Message, name: str) -> Any:
    return getattr(message, name)


def _get_or(message: Message, name: str) -> int:
    return cast("int", getattr(message, name, 0))


def _set(message: Message, name: str, value: Any) -> None:
    setattr(message, name, value)
