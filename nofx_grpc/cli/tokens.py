"""`nofx-grpc token create`: makes a token without a server, for whoever has the master key."""

import asyncio
import os
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from nofx_grpc.app import check_current, open_database, utc_now
from nofx_grpc.rpc.validation import MessageRules
from nofx_grpc.services.admin import Admin
from nofx_grpc.services.call import Call, Identity
from nofx_grpc.services.pages import Pages
from nofx_grpc.services.roles import permissions_of
from nofx_grpc.settings import Settings
from nofx_grpc.v1 import admin_pb2 as pb
from nofx_grpc.v1 import common_pb2

_METHOD = "/nofx_grpc.v1.Admin/CreateToken"
_PERIOD = re.compile(r"([1-9][0-9]{0,5})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_period(text: str) -> timedelta:
    """Return a period such as 30d, 12h, 15m or 2w.  Raises ValueError."""
    match = _PERIOD.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a period: expected a number and m, h, d or w, as in 30d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


@dataclass(frozen=True, slots=True)
class Wanted:
    """The token to make."""

    role: str
    name: str
    user_id: str
    expires_in: timedelta | None
    reveal: bool
    reveal_system: bool

    def to_proto(self, now: datetime) -> pb.Token:
        """The token as CreateToken takes it."""
        role = common_pb2.Role.Value(f"ROLE_{self.role.upper()}")
        token = pb.Token(display_name=self.name, role=role, user_id=self.user_id)
        token.reveal, token.reveal_system = self.reveal, self.reveal_system
        if self.expires_in is not None:
            token.expire_time.FromDatetime(now + self.expires_in)
        return token


def create(settings: Settings, wanted: Wanted) -> dict[str, object]:
    """Make a token as CreateToken does, on the record as the local user's, and report it with its secret.

    Raises StartError if there is no database that this release works with, and what CreateToken raises.
    """
    check_current(settings)
    token = asyncio.run(_create(settings, pb.CreateTokenRequest(token=wanted.to_proto(utc_now()))))
    return {
        "id": token.id,
        "role": wanted.role,
        "display_name": token.display_name,
        "user_id": token.user_id,
        "reveal": token.reveal,
        "reveal_system": token.reveal_system,
        "expire_time": token.expire_time.ToJsonString() if token.HasField("expire_time") else None,
        "secret": token.secret,
    }


async def _create(settings: Settings, request: pb.CreateTokenRequest) -> pb.Token:
    MessageRules().check(request)
    db, keys = open_database(settings, utc_now)
    identity = Identity(f"local:{os.getuid()}", "admin", permissions_of("admin", reveal=True, reveal_system=True))
    db.open()
    try:
        call = Call(
            _METHOD, identity, "local", db, keys.envelope, pb.Token, request=request, user_id=request.token.user_id
        )
        return await Admin(Pages(keys.envelope, utc_now), keys).CreateToken(request, call)
    finally:
        await db.close()
