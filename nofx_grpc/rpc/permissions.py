"""What each method asks of its caller, as its proto states it (design §6)."""

from dataclasses import dataclass

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message

from nofx_grpc.v1 import common_pb2 as pb

REVEALS = (pb.PERMISSION_REVEAL, pb.PERMISSION_REVEAL_SYSTEM)


@dataclass(frozen=True, slots=True)
class Rule:
    """What one method asks of its caller."""

    permission: pb.Permission.ValueType
    user_field: tuple[str, ...]
    narrowed: bool
    open_to_scoped: bool
    changes_nothing: bool  # but the audit log

    @classmethod
    def of(cls, method: MethodDescriptor) -> "Rule":
        idempotency = method.GetOptions().idempotency_level
        options = method.GetOptions().Extensions
        path = options[pb.user_field]
        return cls(
            options[pb.permission],
            tuple(path.split(".")) if path else (),
            options[pb.narrowed],
            options[pb.open_to_scoped],
            idempotency == MethodOptions.NO_SIDE_EFFECTS or options[pb.permission] in REVEALS,
        )

    def user_of(self, request: Message) -> str:
        """The user that a request names, or ''."""
        value: object = request
        for name in self.user_field:
            value = getattr(value, name)
        return str(value) if self.user_field else ""

    def narrow(self, request: Message, user_id: str) -> None:
        """Limit a list over all users to one user."""
        owner: object = request
        for name in self.user_field[:-1]:
            owner = getattr(owner, name)
        setattr(owner, self.user_field[-1], user_id)
