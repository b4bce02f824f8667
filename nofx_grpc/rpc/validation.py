"""The rules that the protos state of each field, checked and put into words."""

from typing import Any

from google.protobuf.message import Message
from protovalidate import Validator

from nofx_grpc.errors import InvalidArgument, Violation

# What a person is told instead of a regular expression, by the pattern's text in the protos.
_PATTERNS = {
    r"^\P{Cc}*$": "must not contain control characters",
    r"^[^\x00]*$": "must not contain a NUL character",
    r"^(https?://[^\s\p{Cc}]+)?$": "must be an http or https URL",
    r"^[^,\p{Cc}]+$": "must not contain commas or control characters",
}


# Each violation costs tens of µs on the event loop: of a message that may have thousands only the first is told.
_MOST_BYTES_LOOKED_THROUGH = 2048


class MessageRules:
    """Checks messages by their `buf.validate` rules."""

    def __init__(self) -> None:
        self._validator = Validator()

    def check(self, message: Message) -> None:
        """Raises InvalidArgument with every field that breaks its rule, of a large message with the first one only.

        Never with a value: it may be secret.
        """
        violations = self._validator.collect_violations(message, fail_fast=True)
        if violations and message.ByteSize() <= _MOST_BYTES_LOOKED_THROUGH:
            violations = self._validator.collect_violations(message)
        if violations:
            raise InvalidArgument(*(Violation(_path(v.proto), _description(v.proto)) for v in violations))


def _path(violation: Any) -> str:
    parts = []
    for element in violation.field.elements:
        subscript = element.subscript
        parts.append(element.field_name + (f"[{subscript.value}]" if subscript is not None else ""))
    return ".".join(parts)


def _description(violation: Any) -> str:
    message = str(violation.message)
    for pattern, words in _PATTERNS.items():
        if f"`{pattern}`" in message:
            return words
    return message
