"""From the bytes of a request to its message, at a cost on the event loop that is known before.

What parsing costs follows from how many values a message holds, far more than from its bytes: four megabytes of text
take a millisecond, two million empty texts a hundred.  So a request is small, or its values are counted first.
"""

import asyncio
from typing import TypeAlias

from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from nofx_grpc.errors import InvalidArgument, RequestTooLarge, Violation
from nofx_grpc.v1 import common_pb2

SMALL = 64 * 1024  # bytes: as many values as these can hold are parsed in a millisecond
MOST_VALUES = 16 * 1024  # of a larger request
_AT_ONCE = 1000  # values that are counted before others have their turn

# The messages that may be inside a message, by the tags of their fields.
Shape: TypeAlias = "dict[int, Shape]"

# How a value is written, by the lowest three bits of its tag.
_VARINT, _LENGTH = 0, 2
_WIDTHS = {1: 8, 5: 4}
_GROUPS = (3, 4)  # the values between these two tags are counted like all others
_LONGEST_VARINT = 10


class RequestReader:
    """Reads the requests of one method."""

    def __init__(self, method: MethodDescriptor, most_bytes: int) -> None:
        """`most_bytes` is the server's limit; the method may have a lower one of its own."""
        self._type = GetMessageClass(method.input_type)
        self._most_bytes = min(method.GetOptions().Extensions[common_pb2.max_request_bytes] or SMALL, most_bytes)
        self._shape = shape_of(method.input_type)

    async def read(self, raw: bytes) -> Message:
        """The request.  Raises RequestTooLarge; InvalidArgument if it holds too many values or is no such message."""
        if len(raw) > self._most_bytes:
            raise RequestTooLarge(len(raw), self._most_bytes)
        if len(raw) > SMALL and await has_more_values(raw, self._shape, MOST_VALUES):
            text = f"holds more than {MOST_VALUES:,} values: a request of more than {SMALL:,} bytes may not"
            raise InvalidArgument(Violation("request", text))
        try:
            return self._type.FromString(raw)
        except DecodeError:
            name = self._type.DESCRIPTOR.full_name
            text = f"is no {name}: the bytes are damaged or cut off, or a string in it is not UTF-8"
            raise InvalidArgument(Violation("request", text)) from None


def shape_of(message: Descriptor) -> Shape:
    """The messages that may be inside a message.  Requests hold none that holds its like."""
    return {
        field.number << 3 | _LENGTH: shape_of(field.message_type)
        for field in message.fields
        if field.message_type is not None
    }


async def has_more_values(raw: bytes, shape: Shape, most: int) -> bool:
    """Whether a message holds more values than `most`, those of the messages inside included, by its bytes alone.

    Never says no of what the parser would find more in; what is damaged is for the parser to refuse.
    """
    count, at, end, inside = 0, 0, len(raw), shape
    around: list[tuple[int, Shape]] = []  # the messages that this one is in
    while at < end or around:
        if at >= end:
            at = end  # what is damaged may reach further
            end, inside = around.pop()
            continue
        if count >= most:
            return True
        count += 1
        if count % _AT_ONCE == 0:
            await asyncio.sleep(0)
        tag, at = _varint(raw, at)
        kind = tag & 7
        if kind == _LENGTH:
            length, at = _varint(raw, at)
            if tag in inside and at + length <= end:
                around.append((end, inside))
                end, inside = at + length, inside[tag]
            else:
                at += length
        elif kind == _VARINT:
            _, at = _varint(raw, at)
        elif kind in _WIDTHS:
            at += _WIDTHS[kind]
        elif kind not in _GROUPS:
            at = end
    return False


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and where it ends: at the end of all if it is none."""
    value = shift = 0
    for byte in raw[at : at + _LONGEST_VARINT]:
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return 0, len(raw)
