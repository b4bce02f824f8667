"""Role, scope and permission, for every rpc that there is: whoever is not meant to call it does not reach its handler.

The handlers are stand-ins, so that nothing but the gate decides; the gate, the tokens and the calls are real.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import product
from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from nofx_grpc.rpc.server import Server, ServerOptions
from nofx_grpc.v1 import common_pb2
from tests.support.rpcs import METHODS, SERVICES, call_raw, permission_of, request_about
from tests.support.service import Client, RunningService, refusal_of

Code = grpc.StatusCode


class Holder(NamedTuple):
    """A kind of token, and what it is for: the table of design and documentation, once more."""

    role: str
    flags: frozenset[str]
    permissions: frozenset[str]


ADMIN = {"READ", "WRITE", "RUN", "LOGIN", "RECORD", "ADMIN"}
HOLDERS = [
    Holder("admin", frozenset(), frozenset(ADMIN)),
    Holder("admin", frozenset({"reveal"}), frozenset(ADMIN | {"REVEAL"})),
    Holder("admin", frozenset({"reveal_system"}), frozenset(ADMIN | {"REVEAL_SYSTEM"})),
    Holder("gateway", frozenset(), frozenset({"READ", "WRITE", "RUN", "LOGIN", "REVEAL_SYSTEM"})),
    Holder("engine", frozenset(), frozenset({"READ", "RUN", "REVEAL", "RECORD"})),
    Holder("viewer", frozenset(), frozenset({"READ"})),
    # What no token is made with must not help the one that somebody writes into the database.
    Holder("viewer", frozenset({"reveal", "reveal_system"}), frozenset({"READ"})),
    Holder("root", frozenset({"reveal", "reveal_system"}), frozenset()),
]
SCOPES = ("", "alice")
ABOUT = ("", "alice", "bob", "default")

REACHED, NOT_ALLOWED, NOT_THERE, TOO_WIDE = "reached", "not allowed", "no such user", "more than the one user"


def expected(method: MethodDescriptor, holder: Holder, scope: str, about: str) -> str:
    options = method.GetOptions().Extensions
    if permission_of(method) not in holder.permissions:
        return NOT_ALLOWED
    names_one = bool(options[common_pb2.user_field]) and bool(about)
    if not scope or (names_one and about == scope):
        return REACHED
    if names_one:
        return NOT_THERE
    return REACHED if options[common_pb2.narrowed] or options[common_pb2.open_to_scoped] else TOO_WIDE


class StandIn:
    """A service whose handlers only say that they were reached, and for which user."""

    def __init__(self, descriptor: ServiceDescriptor, reached: list[str]) -> None:
        self.DESCRIPTOR = descriptor
        for method in descriptor.methods:
            setattr(self, method.name, _handler(method, reached))


def _handler(method: MethodDescriptor, reached: list[str]) -> Callable[..., Any]:
    answer = GetMessageClass(method.output_type)

    async def one(_: object, call: Any) -> Any:
        reached.append(call.user_id)
        return answer()

    async def many(_: object, call: Any) -> AsyncIterator[Any]:
        reached.append(call.user_id)
        yield answer()

    return many if method.server_streaming else one


@pytest.fixture
def reached() -> list[str]:
    return []


@asynccontextmanager
async def stand_ins(service: RunningService, reached: list[str]) -> AsyncIterator[str]:
    server = Server(service.app.gate, [StandIn(each, reached) for each in SERVICES], ServerOptions("127.0.0.1:0"))
    yield await server.start()
    await server.stop(0)


async def outcome(client: Client, method: MethodDescriptor, about: str, reached: list[str]) -> str:
    reached.clear()
    try:
        await call_raw(client, method, request_about(method, about).SerializeToString())
    except grpc.aio.AioRpcError as error:
        refusal = refusal_of(error)
        if refusal.code is Code.INVALID_ARGUMENT:  # an empty request breaks rules, which are looked at last
            return REACHED
        if refusal.code is Code.NOT_FOUND and refusal.text == f"no user with id {about!r}":
            return NOT_THERE
        assert refusal.code is Code.PERMISSION_DENIED, refusal.text
        return TOO_WIDE if "more than the one user" in refusal.text else NOT_ALLOWED
    assert len(reached) == 1
    return REACHED


def cases() -> Iterator[tuple[Holder, str, str]]:
    yield from product(HOLDERS, SCOPES, ABOUT)


async def test_every_rpc_by_role_and_scope(service: RunningService, reached: list[str]) -> None:
    await service.add_users("alice", "bob")
    found: Counter[str] = Counter()
    wrong = []
    async with stand_ins(service, reached) as address:
        clients = {}
        for holder, scope in product(HOLDERS, SCOPES):
            token = await service.make_token(holder.role, scope, **dict.fromkeys(holder.flags, True))
            clients[holder, scope] = Client(address, token)
        service.clients += clients.values()
        for (name, method), (holder, scope, about) in product(METHODS.items(), cases()):
            seen = await outcome(clients[holder, scope], method, about, reached)
            found[seen] += 1
            if seen != expected(method, holder, scope, about):
                wrong.append((name, holder, scope, about, seen))
            if reached and scope and method.GetOptions().Extensions[common_pb2.user_field]:
                assert reached == [scope], "a handler was told of another user than the one the token is for"
    assert wrong == []
    print(dict(found))
    assert len(METHODS) > 50 and found.total() == len(METHODS) * len(HOLDERS) * len(SCOPES) * len(ABOUT)
    assert all(found[each] > 100 for each in (REACHED, NOT_ALLOWED, NOT_THERE, TOO_WIDE))
