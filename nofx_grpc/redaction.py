"""The one way to put a message into words: what is marked as a secret in the proto is left out.

protobuf's own formatting prints secrets, `debug_redact` or not.
"""

import json
from functools import cache
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from nofx_grpc.v1 import common_pb2

HIDDEN: Final = "<redacted>"
MOST_CHARACTERS: Final = 200
MOST_ITEMS: Final = 20


def redacted(message: Message) -> str:
    """Return the set fields on one line: a mark for each secret, long values cut, control characters escaped."""
    return f"{message.DESCRIPTOR.name}{{{', '.join(redacted_fields(message))}}}"


def redacted_fields(message: Message, first: int = 1) -> list[str]:
    """The set fields one by one, so shown, from the field with the number `first` on."""
    return [f"{field.name}: {_field(field, value)}" for field, value in message.ListFields() if field.number >= first]


def escaped(text: str) -> str:
    """Return the text with everything escaped that could steer a terminal or reorder what is read."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


@cache
def is_secret(field: FieldDescriptor) -> bool:
    """Tell whether the proto marks the field as a secret, in our words or in protobuf's."""
    options = field.GetOptions()
    return bool(options.Extensions[common_pb2.secret] or options.debug_redact)


def _field(field: FieldDescriptor, value: Any) -> str:
    if is_secret(field):
        return HIDDEN
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return _map(field.message_type, value)
    if field.is_repeated:
        return f"[{_items([_one(field, item) for item in value[:MOST_ITEMS]], len(value))}]"
    return _one(field, value)


def _map(entry: Descriptor, value: Any) -> str:
    kind = entry.fields_by_name["value"]
    items = [f"{_text(str(key))}: {_one(kind, value[key])}" for key in sorted(value)[:MOST_ITEMS]]
    return f"{{{_items(items, len(value))}}}"


def _items(shown: list[str], count: int) -> str:
    return ", ".join(shown if count <= MOST_ITEMS else [*shown, f"and {count - MOST_ITEMS} more"])


def _one(field: FieldDescriptor, value: Any) -> str:
    if isinstance(value, Message):
        return redacted(value)
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(value)
        return str(value) if named is None else str(named.name)
    return _text(value) if isinstance(value, str) else str(value)


def _text(value: str) -> str:
    cut = value if len(value) <= MOST_CHARACTERS else f"{value[:MOST_CHARACTERS]}…"
    return escaped(json.dumps(cut, ensure_ascii=False))
