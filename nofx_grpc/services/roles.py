"""The table of roles: who may do what (design §6)."""

from functools import cache

from nofx_grpc.v1 import common_pb2 as pb

_ROLES: dict[str, frozenset[pb.Permission.ValueType]] = {
    "admin": frozenset(
        {
            pb.PERMISSION_READ,
            pb.PERMISSION_WRITE,
            pb.PERMISSION_RUN,
            pb.PERMISSION_LOGIN,
            pb.PERMISSION_RECORD,
            pb.PERMISSION_ADMIN,
        }
    ),
    "gateway": frozenset(
        {pb.PERMISSION_READ, pb.PERMISSION_WRITE, pb.PERMISSION_RUN, pb.PERMISSION_LOGIN, pb.PERMISSION_REVEAL_SYSTEM}
    ),
    "engine": frozenset({pb.PERMISSION_READ, pb.PERMISSION_RUN, pb.PERMISSION_REVEAL, pb.PERMISSION_RECORD}),
    "viewer": frozenset({pb.PERMISSION_READ}),
}

ROLES = tuple(_ROLES)


@cache
def permissions_of(role: str, *, reveal: bool, reveal_system: bool) -> frozenset[pb.Permission.ValueType]:
    """What a role may do.  An admin reveals only what its token says; the flags give other roles nothing."""
    granted = set(_ROLES.get(role, frozenset()))
    if role == "admin":
        granted |= {pb.PERMISSION_REVEAL} if reveal else set()
        granted |= {pb.PERMISSION_REVEAL_SYSTEM} if reveal_system else set()
    return frozenset(granted)
