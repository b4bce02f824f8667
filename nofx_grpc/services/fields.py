"""Which fields of a resource a request sets, by the rules of AIP-134 and AIP-203 and those for secrets (design §3).

Without a mask the fields that are present are meant; an empty secret is then not, for no mask never clears a secret.
A field that the mask names and that is absent takes its default.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from nofx_grpc.errors import InvalidArgument, Violation
from nofx_grpc.services.convert import redacted_url
from nofx_grpc.v1 import common_pb2

MOST_PATHS = 100

_NOT_SETTABLE = {
    field_behavior_pb2.OUTPUT_ONLY,
    field_behavior_pb2.IDENTIFIER,
    field_behavior_pb2.IMMUTABLE,
}


class ResourceFields:
    """The settable fields of one resource message.

    `name` is what requests call the resource, `required` what a new one must have; each other field has a default.
    """

    def __init__(
        self, name: str, descriptor: Descriptor, *, required: tuple[str, ...], defaults: Mapping[str, Any]
    ) -> None:
        self.name, self.required, self.defaults = name, required, defaults
        self.identifiers = tuple(field.name for field in descriptor.fields if _is_identifier(field))
        self.settable = tuple(field.name for field in descriptor.fields if _is_settable(field))
        self.secrets = frozenset(
            field.name for field in descriptor.fields if field.GetOptions().Extensions[common_pb2.secret]
        ).intersection(self.settable)
        if set(self.settable) != set(required) | set(defaults):
            raise TypeError(f"{name}: settable fields {self.settable} are not the required and the defaulted ones")

    def key(self, message: Message) -> tuple[str, ...]:
        """The key of the resource that an update names.  Raises InvalidArgument if a part of it is missing."""
        key = {field: str(getattr(message, field)) for field in self.identifiers}
        missing = [Violation(f"{self.name}.{field}", "is required") for field, value in key.items() if not value]
        if missing:
            raise InvalidArgument(*missing)
        return tuple(key.values())

    def for_create(self, message: Message) -> dict[str, Any]:
        """Every settable field of a new resource.  Raises InvalidArgument if a required one is missing."""
        missing = [
            Violation(f"{self.name}.{field}", "is required for a new resource")
            for field in self.required
            if not _is_present(message, field) or getattr(message, field) == ""
        ]
        if missing:
            raise InvalidArgument(*missing)
        return self._values(message, self.settable)

    def for_update(self, message: Message, mask: FieldMask) -> dict[str, Any]:
        """The fields to change, and their new values.  Raises InvalidArgument for a mask that names anything else."""
        if not mask.paths:
            return self._values(message, [field for field in self.settable if self._is_meant(message, field)])
        if len(mask.paths) > MOST_PATHS:
            raise InvalidArgument(
                Violation("update_mask", f"names {len(mask.paths):,} fields: expected at most {MOST_PATHS}")
            )
        wrong = [Violation("update_mask", self._complaint(path)) for path in mask.paths if path not in self.settable]
        wrong += [
            Violation(f"{self.name}.{field}", "cannot be cleared: give a value or leave it out of update_mask")
            for field in mask.paths
            if field in self.required and (not _is_present(message, field) or getattr(message, field) == "")
        ]
        if wrong:
            raise InvalidArgument(*wrong)
        return self._values(message, mask.paths)

    def _values(self, message: Message, fields: Iterable[str]) -> dict[str, Any]:
        """The values of these fields.  Raises InvalidArgument for a URL without a host."""
        values = {field: self._value(message, field) for field in fields}
        wrong = [
            field for field, value in values.items() if field.endswith("_url") and value and not redacted_url(value)
        ]
        if wrong:  # never with the URL, which may carry a password
            raise InvalidArgument(*(Violation(f"{self.name}.{field}", "is no URL with a host") for field in wrong))
        return values

    def _value(self, message: Message, field: str) -> Any:
        if not _is_present(message, field):
            return self.defaults.get(field)
        value = getattr(message, field)
        return tuple(value) if _is_repeated(message, field) else value

    def _is_meant(self, message: Message, field: str) -> bool:
        return _is_present(message, field) and not (field in self.secrets and getattr(message, field) == "")

    def _complaint(self, path: str) -> str:
        if path == "*":
            return "'*' is not accepted, for it would clear what the client does not know: name the fields to change"
        return f"{path!r} is not a field that can be set: expected some of {', '.join(self.settable)}"


def _is_identifier(field: FieldDescriptor) -> bool:
    return field_behavior_pb2.IDENTIFIER in _behaviors(field)


def _is_settable(field: FieldDescriptor) -> bool:
    return field.name != "etag" and not _NOT_SETTABLE.intersection(_behaviors(field))


def _behaviors(field: FieldDescriptor) -> Iterable[int]:
    behaviors: Iterable[int] = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return behaviors


def _is_repeated(message: Message, field: str) -> bool:
    return bool(message.DESCRIPTOR.fields_by_name[field].is_repeated)


def _is_present(message: Message, field: str) -> bool:
    if _is_repeated(message, field):
        return len(getattr(message, field)) > 0
    return message.HasField(field)
