"""Who may call what, for every rpc: by role, and by the user that a token is limited to."""

from collections.abc import Awaitable
from typing import Any

import grpc
import pytest

from nofx_grpc.v1 import common_pb2
from tests.support.rpcs import METHODS, call_raw, path_of, permission_of, request_about
from tests.support.service import Refusal, RunningService, refusal_of, refused

Code = grpc.StatusCode

ROLES = ("admin", "gateway", "engine", "viewer")

# The table of design and documentation, once more: who changes it in the service shall notice.
ALLOWED = {
    "READ": {"admin", "gateway", "engine", "viewer"},
    "WRITE": {"admin", "gateway"},
    "RUN": {"admin", "gateway", "engine"},
    "LOGIN": {"admin", "gateway"},
    "REVEAL": {"engine"},
    "REVEAL_SYSTEM": {"gateway"},
    "RECORD": {"admin", "engine"},
    "ADMIN": {"admin"},
}
# What an admin's token adds to its role if it says so.
REVEALING: dict[str, dict[str, Any]] = {"REVEAL": {"reveal": True}, "REVEAL_SYSTEM": {"reveal_system": True}}

GARBAGE = b"\xff\xff\xff"

each_method = pytest.mark.parametrize("name", METHODS)


async def outcome(call: Awaitable[object]) -> Refusal | None:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return refusal_of(error)
    return None


@each_method
async def test_roles(service: RunningService, name: str) -> None:
    """A caller without the permission is refused before its request is looked at; others have theirs looked at."""
    method, permission = METHODS[name], permission_of(METHODS[name])
    async with service.nothing_written():
        for role in ROLES:
            call = call_raw(service.client(role), method, GARBAGE)
            if role in ALLOWED[permission]:
                await refused(call, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
                continue
            refusal = await refused(call, Code.PERMISSION_DENIED, "PERMISSION_DENIED")
            assert (
                refusal.text
                == f"{path_of(method)} needs the permission {permission}, which the role {role!r} does not have"
            )
            record = await service.last_record("principal", "method", "outcome", "reason")
            assert record == (f"token:bootstrap-{role}", path_of(method), "DENIED", "PERMISSION_DENIED")


@each_method
async def test_no_credential(service: RunningService, name: str) -> None:
    await refused(call_raw(service.anonymous(), METHODS[name], b""), Code.UNAUTHENTICATED, "UNAUTHENTICATED")


@pytest.mark.parametrize("name", [name for name in METHODS if permission_of(METHODS[name]) in REVEALING])
async def test_an_admin_reveals_what_its_token_says(service: RunningService, name: str) -> None:
    permission = permission_of(METHODS[name])
    for said, flags in REVEALING.items():
        call = call_raw(service.client(token=await service.make_token("admin", **flags)), METHODS[name], GARBAGE)
        if said == permission:
            await refused(call, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
        else:
            await refused(call, Code.PERMISSION_DENIED, "PERMISSION_DENIED")


@each_method
async def test_a_limited_token_reaches_its_own_user_only(service: RunningService, name: str) -> None:
    await service.add_users("alice", "bob")
    method, options = METHODS[name], METHODS[name].GetOptions().Extensions
    role = min(ALLOWED[permission_of(method)])
    client = service.client(token=await service.make_token(role, "alice"))
    anybody = call_raw(client, method, request_about(method, "").SerializeToString())
    if options[common_pb2.narrowed] or options[common_pb2.open_to_scoped]:
        # It is let in, be it to hear that the request lacks something else.
        try:
            await anybody
        except grpc.aio.AioRpcError as error:
            assert error.code() == Code.INVALID_ARGUMENT  # either is right
    else:
        async with service.nothing_written():
            refusal = await refused(anybody, Code.PERMISSION_DENIED, "PERMISSION_DENIED")
        assert "the one user that this token is limited to" in refusal.text
    if options[common_pb2.user_field]:
        bobs = call_raw(client, method, request_about(method, "bob").SerializeToString())
        async with service.nothing_written():
            refusal = await refused(bobs, Code.NOT_FOUND, "NOT_FOUND")
        assert refusal.text == "no user with id 'bob'"
        assert await service.last_record("outcome", "user_id", "reason") == ("DENIED", "bob", "NOT_FOUND")
        own = await outcome(call_raw(client, method, request_about(method, "alice").SerializeToString()))
        assert own is None or (own.reason in {"INVALID_ARGUMENT", "NOT_FOUND"} and "'bob'" not in own.text)


async def test_a_list_is_narrowed_to_the_tokens_user(service: RunningService) -> None:
    await service.add_users("alice", "bob")
    for user_id in ("alice", "bob"):
        await service.execute(
            "INSERT INTO exchanges (id, user_id, name, type, revision) VALUES ('okx', ?, 'X', 'cex', 1)", user_id
        )
    method = METHODS["Exchanges.ListExchanges"]
    client = service.client(token=await service.make_token("viewer", "alice"))
    listed = await call_raw(client, method, b"")
    assert b"alice" in listed and b"bob" not in listed
