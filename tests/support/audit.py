"""A service with an audit log that something is in, and how tests read it."""

from datetime import datetime
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from nofx_grpc.v1 import admin_pb2, traders_pb2
from nofx_grpc.v1 import audit_pb2 as pb
from tests.support.clock import FakeClock
from tests.support.rows import USER, make_trader
from tests.support.service import RunningService, refused

Code = grpc.StatusCode
PREFIX = "/nofx_grpc.v1."


def stamp(at: datetime) -> Timestamp:
    stamped = Timestamp()
    stamped.FromDatetime(at)
    return stamped


async def events(service: RunningService, **fields: Any) -> list[pb.AuditEvent]:
    """All records of a list, page by page."""
    found: list[pb.AuditEvent] = []
    token = ""
    while True:
        request = pb.ListAuditEventsRequest(page_token=token, **fields)
        page = await service.client().admin.ListAuditEvents(request)
        found += page.events
        token = page.next_page_token
        if not token:
            return found


async def verified(service: RunningService, head: str = "") -> pb.VerifyAuditResponse:
    return await service.client().admin.VerifyAudit(pb.VerifyAuditRequest(head=head))


async def reveal(service: RunningService, trader_id: str) -> Any:
    request = traders_pb2.GetTraderConfigRequest(user_id=USER, trader_id=trader_id)
    return await service.client("engine").traders.GetTraderConfig(request)


async def happenings(service: RunningService, clock: FakeClock) -> None:
    """Several people do several things, a minute apart."""
    trader = await make_trader(service)
    for _ in range(3):
        clock.advance(seconds=60)
        await reveal(service, trader.id)
    clock.advance(seconds=60)
    denied = service.client("viewer").admin.ListTokens(admin_pb2.ListTokensRequest())
    await refused(denied, Code.PERMISSION_DENIED, "PERMISSION_DENIED")
    clock.advance(seconds=60)
