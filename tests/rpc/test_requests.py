"""What a request may cost before it is looked at: its bytes, its values, and how many of each field."""

import random
from collections.abc import Iterator
from math import inf
from typing import Any

import grpc
import pytest
from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from buf.validate import validate_pb2
from nofx_grpc.errors import InvalidArgument, RequestTooLarge
from nofx_grpc.rpc.requests import MOST_VALUES, SMALL, RequestReader, has_more_values, shape_of
from nofx_grpc.v1 import decision_logs_pb2, watch_pb2
from tests.support.rpcs import METHODS, call_raw, limit_of
from tests.support.service import RunningService, refused

Code = grpc.StatusCode
SERVER_LIMIT = 64 * 1024 * 1024
USER = watch_pb2.RESOURCE_KIND_USER
APPEND, WATCH = METHODS["DecisionLogs.AppendDecision"], METHODS["Watch.Watch"]
# Their rules let each text be long, but not all at once; of others see `test_what_the_rules_accept_is_not_too_large`.
LESS_THAN_ALL = {"DecisionLogs.AppendDecision", "SystemConfig.SetSystemConfig", "Admin.VerifyAudit"}

_SHORT: dict[str, float] = {"^[0-9]{6}$": 6}


def _fields(message: Descriptor) -> Iterator[FieldDescriptor]:
    """Every field that a request of this type can hold, at any depth."""
    for field in message.fields:
        yield field
        if field.message_type is not None:
            yield from _fields(field.message_type)


def _rules(field: FieldDescriptor) -> validate_pb2.FieldRules:
    rules: validate_pb2.FieldRules = field.GetOptions().Extensions[validate_pb2.field]
    return rules


def _largest(message: Descriptor) -> float:
    """How many bytes a message that keeps its rules may have, short of what the service itself puts in."""
    return sum(_largest_field(field) for field in message.fields if not _is_output(field))


def _largest_field(field: FieldDescriptor) -> float:
    rules, times = _rules(field), 1
    if field.is_repeated:
        rules, times = rules.repeated.items, rules.repeated.max_items
    if field.message_type is not None:
        return 20 if field.message_type.file.package == "google.protobuf" else times * _largest(field.message_type)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return rules.bytes.max_len or inf
    if field.type != FieldDescriptor.TYPE_STRING:
        return times * 16
    most = rules.string.max_bytes or 4 * rules.string.max_len or _SHORT.get(rules.string.pattern, inf)
    return times * (8 + most)


def _is_output(field: FieldDescriptor) -> bool:
    behaviors = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.OUTPUT_ONLY in behaviors


def _values(message: Message) -> int:
    """How many values a message holds, by what the parser has made of it."""
    count = 0
    for field, value in message.ListFields():
        items = value if field.is_repeated else [value]
        count += len(items) + (sum(map(_values, items)) if field.message_type is not None else 0)
    return count


def _length_delimited(number: int, body: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    low = value & 0x7F
    return bytes([low | 0x80]) + _varint(value >> 7) if value > low else bytes([low])


def _steps(raw: bytes, method: MethodDescriptor, most: int = MOST_VALUES) -> tuple[int, bool]:
    """In how many steps the values of a request are counted, others having their turn between them; the outcome."""
    counting, steps = has_more_values(raw, shape_of(method.input_type), most), 1
    while True:
        try:
            counting.send(None)
        except StopIteration as end:
            return steps, end.value
        steps += 1


# ---- the protos


def test_every_repeated_field_of_a_request_says_how_many() -> None:
    repeated = {field for method in METHODS.values() for field in _fields(method.input_type) if field.is_repeated}
    unlimited = {field.full_name for field in repeated if not _rules(field).repeated.max_items}
    # Its message is not ours to put rules on: see `MOST_PATHS`.
    assert unlimited == {"google.protobuf.FieldMask.paths"}


def test_what_the_rules_accept_is_not_too_large() -> None:
    assert {name for name, method in METHODS.items() if _largest(method.input_type) > limit_of(method)} == LESS_THAN_ALL


def test_a_request_that_may_be_large_has_one_value_under_a_tag() -> None:
    large = [method for method in METHODS.values() if limit_of(method) > SMALL]
    assert [field.full_name for method in large for field in _fields(method.input_type) if field.is_packed] == []


# ---- counting


def test_values_are_counted_as_the_parser_finds_them() -> None:
    chance, tags = random.Random(1), list(shape_of(APPEND.input_type)[26])  # noqa: S311  # no secret hangs on it
    for _ in range(300):
        position = decision_logs_pb2.PositionSnapshot(symbol="x", null_fields=["side"] * chance.randrange(9))
        decision = decision_logs_pb2.Decision(
            positions=[position] * chance.randrange(50), success=True, raw_json=b"\x80"
        )
        decision.time.seconds = chance.choice(tags)
        request = decision_logs_pb2.AppendDecisionRequest(user_id="u" * chance.randrange(300), decision=decision)
        count = _values(request)
        assert [_steps(request.SerializeToString(), APPEND, most)[1] for most in (count - 1, count)] == [True, False]


MANY = b"\x0a\x00" * (MOST_VALUES + 1)
ENDLESS = b"\x80" * 11


@pytest.mark.parametrize(
    "raw",
    [
        MANY,
        _length_delimited(3, b"\xaa\x01\x00" * (MOST_VALUES + 1)),
        b"\x1a\x00" * (MOST_VALUES + 1),
        b"\xf8\x7f\x01" * (MOST_VALUES + 1),
        b"\xfb\x7f" + MANY + b"\xfc\x7f",
        b"\xfb\x7f" + _length_delimited(3, ENDLESS) + b"\xfc\x7f" + MANY,
        b"\xfb\x7f" + _length_delimited(3, b"\x0a\xff\x7f") + b"\xfc\x7f" + MANY,
        b"\xfb\x7f" + _length_delimited(3, b"\x07") + b"\xfc\x7f" + MANY,
        b"\x9a\x00" + _length_delimited(3, MANY)[1:],
    ],
    ids=["texts", "inside", "again", "unknown", "group", "endless", "beyond", "no kind", "long tag"],
)
def test_many_values_are_found_wherever_they_are(raw: bytes) -> None:
    GetMessageClass(APPEND.input_type).FromString(raw)  # so the parser would do all the work
    assert _steps(raw, APPEND) == (MOST_VALUES // 1000 + 1, True)


@pytest.mark.parametrize(
    "raw", [ENDLESS, b"\x0a", b"\x0a\x05ab", b"\x1a\x05ab", b"\x0d", b"\x0f", _length_delimited(3, b"\x0a")]
)
def test_what_is_damaged_is_left_to_the_parser(raw: bytes) -> None:
    assert _steps(raw + b"x" * 100, APPEND)[1] is False


# ---- reading


async def test_a_large_request_may_not_hold_too_many_values() -> None:
    reader = RequestReader(APPEND, SERVER_LIMIT)
    many, text = b"\x0a\x00" * MOST_VALUES, _length_delimited(1, b"x" * SMALL)
    with pytest.raises(InvalidArgument) as caught:
        await reader.read(many + text)
    expected = "holds more than 16,384 values: a request of more than 65,536 bytes may not"
    assert [(each.field, each.description) for each in caught.value.violations] == [("request", expected)]
    assert (await reader.read(many[2:] + text)).user_id == "x" * SMALL  # type: ignore[attr-defined]  # its request has


@pytest.mark.parametrize("server_limit", [SERVER_LIMIT, 100_000, 1024])
async def test_each_rpc_has_its_limit_and_the_server_has_one(server_limit: int) -> None:
    for method in METHODS.values():
        limit = min(limit_of(method), server_limit)
        with pytest.raises(RequestTooLarge) as caught:
            await RequestReader(method, server_limit).read(bytes(limit + 1))
        assert caught.value.metadata == {"size": str(limit + 1), "limit": str(limit)}


# ---- over the wire


async def test_a_watch_of_many_kinds_is_refused_unread(service: RunningService) -> None:
    million = watch_pb2.WatchRequest(kinds=[USER] * 1_000_000).SerializeToString()
    await refused(call_raw(service.client("viewer"), WATCH, million), Code.RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE")
    some = watch_pb2.WatchRequest(kinds=[USER] * 17)
    refusal = await refused(
        call_raw(service.client("viewer"), WATCH, some.SerializeToString()), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT"
    )
    assert set(refusal.violations) == {"kinds"}


async def test_an_append_of_many_empty_positions_is_refused_unread(service: RunningService) -> None:
    empty = _length_delimited(3, b"\xaa\x01\x00" * 600_000)
    refusal = await refused(
        call_raw(service.client("engine"), APPEND, empty), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT"
    )
    assert set(refusal.violations) == {"request"}


@pytest.mark.parametrize(
    ("raw", "code", "reason"),
    [
        (b"\x1a\x00" * SMALL, Code.RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE"),
        (b"\xff", Code.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
    ],
)
async def test_reflection_reads_no_more_than_others(
    service: RunningService, raw: bytes, code: grpc.StatusCode, reason: str
) -> None:
    ask: Any = service.anonymous().channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    )
    call = ask(iter([raw]), metadata=(("authorization", f"Bearer {service.token('viewer')}"),))
    await refused(call.read(), code, reason)
