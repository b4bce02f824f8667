"""What callers at the listener for certificates may do, by the names of this policy."""

from typing import Any

import grpc
import pytest

from nofx_grpc.v1 import exchanges_pb2
from tests.support.certificates import MutualTls, grant, spiffe
from tests.support.rpcs import METHODS, call_raw, permission_of
from tests.support.service import Client, RunningService, refused

Code = grpc.StatusCode

BINANCE = exchanges_pb2.GetExchangeRequest(user_id="default", id="binance")

POLICY = (
    "".join(grant(spiffe(role), role) for role in ("admin", "gateway", "engine", "viewer"))
    + grant(spiffe("teams/*"), "viewer")
    + grant(spiffe("teams/trading/*"), "engine")
    + grant(spiffe("teams/trading/intern"), "viewer")
    + grant(spiffe("ada/gateway"), "gateway", user_id="ada")
    + grant(spiffe("ada/admin"), "admin", user_id="ada")
    + grant(spiffe("auditor"), "admin", reveal=True, reveal_system=True)
    + '[[grant]]\ncommon_name = "old engine"\nrole = "engine"\n'
)

# What each role is let do, by one rpc for each permission.
ALLOWED = {
    "admin": {"READ", "WRITE", "RUN", "LOGIN", "RECORD", "ADMIN"},
    "gateway": {"READ", "WRITE", "RUN", "LOGIN", "REVEAL_SYSTEM"},
    "engine": {"READ", "RUN", "REVEAL", "RECORD"},
    "viewer": {"READ"},
}
PERMISSIONS = {permission_of(method) for method in METHODS.values()}


def get(client: Client) -> Any:
    return client.exchanges.GetExchange(BINANCE, timeout=10)


def client_of(service: RunningService, mtls: MutualTls, path: str, token: str | None = None) -> Client:
    return service.client_by_tls(mtls.channel_credentials(mtls.authority.workload(path)), token)


async def denied(client: Client) -> str:
    """The text of the refusal that the caller of this client gets."""
    return (await refused(get(client), Code.UNAUTHENTICATED, "UNAUTHENTICATED")).text


async def may(client: Client) -> set[str]:
    """The permissions that a caller has."""
    found = set()
    for permission in {permission_of(method) for method in METHODS.values()}:
        method = next(m for m in METHODS.values() if permission_of(m) == permission)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call_raw(client, method, b"\xff\xff")
        assert caught.value.code() in {Code.INVALID_ARGUMENT, Code.PERMISSION_DENIED}
        found |= {permission} if caught.value.code() is Code.INVALID_ARGUMENT else set()
    return found
