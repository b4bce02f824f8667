"""The service Admin: the tokens of the callers; the keys are in `keys`, the audit log in `audit_trail`."""

import os
from datetime import datetime
from uuid import uuid4

from nofx_grpc.crypto.tokens import new_token_secret, token_hash
from nofx_grpc.errors import InvalidArgument, PermissionDenied, Violation
from nofx_grpc.services.audit_trail import AuditTrail
from nofx_grpc.services.call import Call, Identity
from nofx_grpc.services.convert import to_timestamp
from nofx_grpc.services.keys import Keys
from nofx_grpc.services.pages import Pages
from nofx_grpc.services.roles import permissions_of
from nofx_grpc.store import tokens
from nofx_grpc.store.live_keys import LiveKeys
from nofx_grpc.store.resources import UNWRITTEN
from nofx_grpc.store.tokens import Token
from nofx_grpc.v1 import admin_pb2 as pb
from nofx_grpc.v1 import common_pb2

_REVEALING = ("reveal", "reveal_system")


class Admin(Keys, AuditTrail):
    """Creates, lists and revokes tokens; what it does with keys and the audit log is inherited."""

    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Admin"]

    def __init__(self, pages: Pages, keys: LiveKeys) -> None:
        Keys.__init__(self, pages, keys)
        AuditTrail.__init__(self, pages)

    async def CreateToken(self, request: pb.CreateTokenRequest, call: Call) -> pb.Token:
        check_token(request.token)
        expires_at = expiry_of(request.token, self._pages.clock())
        secret = new_token_secret(os.urandom)
        draft = _draft(request.token, token_hash(secret), expires_at)
        check_no_more_than(call.identity, draft)
        return await call.write(lambda token: to_proto(token, secret), tokens.create, draft, call.identity.token_id)

    async def ListTokens(self, request: pb.ListTokensRequest, call: Call) -> pb.ListTokensResponse:
        return await self._pages.answer(request, call, tokens.Listing(), to_proto, pb.ListTokensResponse)

    async def RevokeToken(self, request: pb.RevokeTokenRequest, call: Call) -> pb.RevokeTokenResponse:
        return await call.write(lambda token: pb.RevokeTokenResponse(token=to_proto(token)), tokens.revoke, request.id)


def to_proto(token: Token, secret: str = "") -> pb.Token:
    """A token as its owner sees it; the secret is known only when it is made."""
    message = pb.Token(
        user_id=token.user_id,
        id=token.id,
        create_time=to_timestamp(token.created_at),
        display_name=token.display_name,
        role=common_pb2.Role.Value(f"ROLE_{token.role.upper()}"),
        reveal=token.reveal,
        reveal_system=token.reveal_system,
        bootstrap=token.bootstrap,
        secret=secret,
    )
    times = {"expire_time": token.expires_at, "revoke_time": token.revoked_at, "last_use_time": token.last_used_at}
    for name, at in times.items():
        if at is not None:
            getattr(message, name).CopyFrom(to_timestamp(at))
    return message


def check_token(message: pb.Token) -> None:
    """Raises InvalidArgument for a token that lacks what it needs, or claims what its role does not have."""
    wrong = [
        Violation(f"token.{name}", "is required for a new token")
        for name in ("display_name", "role")
        if not message.HasField(name)
    ]
    if message.role != common_pb2.ROLE_ADMIN:
        wrong += [
            Violation(f"token.{name}", "is for the role ROLE_ADMIN only: what other roles may read is fixed")
            for name in _REVEALING
            if getattr(message, name)
        ]
    if wrong:
        raise InvalidArgument(*wrong)


def check_no_more_than(maker: Identity, token: Token) -> None:
    """Raises PermissionDenied for a token that may do what its maker may not.

    Otherwise whoever has an admin's token had everything, by way of the tokens that it makes.
    """
    more = permissions_of(token.role, reveal=token.reveal, reveal_system=token.reveal_system) - maker.permissions
    if more:
        names = " and ".join(sorted(common_pb2.Permission.Name(each).removeprefix("PERMISSION_") for each in more))
        raise PermissionDenied(
            f"the token would have the permission {names}, which its maker does not have: use an admin's token with "
            "`reveal` and `reveal_system`, or 'nofx-grpc token create' beside the database"
        )


def expiry_of(message: pb.Token, now: datetime) -> datetime | None:
    """When the token is to expire; None for never.  Raises InvalidArgument unless that is in the future."""
    if not message.HasField("expire_time"):
        return None
    try:
        at = message.expire_time.ToDatetime(now.tzinfo)
    except ValueError:
        at = now
    if at <= now:
        raise InvalidArgument(Violation("token.expire_time", "must be in the future, and before the year 10000"))
    return at


def _draft(message: pb.Token, hash: str, expires_at: datetime | None) -> Token:
    return Token(
        id=str(uuid4()),
        hash=hash,
        display_name=message.display_name,
        role=common_pb2.Role.Name(message.role).removeprefix("ROLE_").lower(),
        user_id=message.user_id,
        reveal=message.reveal,
        reveal_system=message.reveal_system,
        bootstrap=False,
        created_at=UNWRITTEN["created_at"],
        expires_at=expires_at,
        revoked_at=None,
        last_used_at=None,
    )
