"""A clock that is set back: nothing that was done is undone, lost or done again."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from nofx_grpc.v1 import admin_pb2, audit_pb2, exchanges_pb2, watch_pb2
from tests.support.clock import FakeClock
from tests.support.service import RunningService, refused, running_service
from tests.support.watching import read


@pytest.fixture
async def service(tmp_path: Path, clock: FakeClock) -> AsyncIterator[RunningService]:
    async with running_service(tmp_path, clock=clock) as made:
        yield made


def creation(id: str) -> exchanges_pb2.CreateExchangeRequest:
    exchange = exchanges_pb2.Exchange(name="E", type="cex", api_key="k")
    return exchanges_pb2.CreateExchangeRequest(
        user_id="default", exchange_id=id, exchange=exchange, request_id=f"request {id}"
    )


async def test_writes_go_on_in_order_and_a_repeat_is_still_a_repeat(service: RunningService, clock: FakeClock) -> None:
    admin = service.client()
    stream: Any = service.client("viewer").watch.Watch(watch_pb2.WatchRequest())
    await read(stream)
    first = await admin.exchanges.CreateExchange(creation("one"))
    clock.advance(days=-2)
    second = await admin.exchanges.CreateExchange(creation("two"))
    again = await admin.exchanges.CreateExchange(creation("one"))
    assert (second.revision, again) == (first.revision + 1, first)
    assert [(await read(stream)).revision for _ in range(2)] == [first.revision, second.revision]
    await service.app.housekeeping.sweep()  # which forgets nothing that is younger than its clock
    resumed: Any = admin.watch.Watch(
        watch_pb2.WatchRequest(start_revision=first.revision - 1, history_id=service.app.db.history_id)
    )
    assert [(await read(resumed)).revision for _ in range(2)] == [first.revision, second.revision]


async def test_a_revoked_token_stays_revoked(service: RunningService, clock: FakeClock) -> None:
    admin = service.client()
    secret = await service.make_token("viewer")
    await admin.admin.RevokeToken(admin_pb2.RevokeTokenRequest(id=secret[-8:]))
    clock.advance(days=-2)
    call = service.client(token=secret).exchanges.ListExchanges(exchanges_pb2.ListExchangesRequest(user_id="default"))
    await refused(call, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


async def test_the_audit_log_still_verifies(service: RunningService, clock: FakeClock) -> None:
    admin = service.client()
    await admin.exchanges.CreateExchange(creation("one"))
    clock.advance(days=-2)
    await admin.exchanges.CreateExchange(creation("two"))
    verified = await admin.admin.VerifyAudit(audit_pb2.VerifyAuditRequest())
    assert verified.ok and verified.record_count >= 2, verified.findings
