"""Audit records over a real server: what is on record, and how it is listed."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from nofx_grpc.v1 import audit_pb2 as pb
from nofx_grpc.v1 import exchanges_pb2, models_pb2
from tests.support.audit import PREFIX, events, reveal, stamp
from tests.support.clock import START
from tests.support.rows import USER, make_exchange
from tests.support.service import RunningService, refused

Code = grpc.StatusCode


async def test_a_record_tells_who_what_when_from_where_and_how_it_came_out(told: RunningService) -> None:
    event = (await events(told, method="Traders/GetTraderConfig"))[0]
    assert (event.principal, event.role, event.method) == (
        "token:bootstrap-engine",
        "engine",
        PREFIX + "Traders/GetTraderConfig",
    )
    assert event.peer.startswith("ipv4:127.0.0.1:") and event.user_id == USER and event.resources
    assert (event.outcome, event.reason, event.revision) == (pb.AUDIT_OUTCOME_OK, "", await told.revision())
    assert event.time.ToDatetime() == (START + timedelta(seconds=180)).replace(tzinfo=None)
    assert event.chain_id and event.chain_position > 1


async def test_records_are_listed_the_newest_first_on_any_page_size(told: RunningService) -> None:
    everything = await events(told, end_time=stamp(START + timedelta(seconds=299)))
    assert len(everything) > 5
    keys = [(e.time.ToDatetime(), e.chain_id, e.chain_position) for e in everything]
    assert keys == sorted(keys, reverse=True)
    for size in (1, 2, 3):
        again = await events(told, end_time=stamp(START + timedelta(seconds=299)), page_size=size)
        assert again == everything


@pytest.mark.parametrize(
    ("fields", "number"),
    [
        ({"principal": "token:bootstrap-engine"}, 3),
        ({"principal": "token:nobody"}, 0),
        ({"method": "Traders/GetTraderConfig"}, 3),
        ({"method": PREFIX + "Admin/ListTokens"}, 1),
        ({"outcome": pb.AUDIT_OUTCOME_DENIED}, 1),
        ({"outcome": pb.AUDIT_OUTCOME_FAILED}, 0),
        ({"outcome": pb.AUDIT_OUTCOME_OK, "method": "Traders/GetTraderConfig"}, 3),
        ({"user_id": USER, "method": "Traders/GetTraderConfig"}, 3),
        ({"user_id": "nobody"}, 0),
        ({"resource": f"create trader {USER}/"}, 1),
        ({"resource": "%"}, 0),
        ({"start_time": stamp(START + timedelta(seconds=120)), "method": "Traders/GetTraderConfig"}, 2),
        ({"end_time": stamp(START + timedelta(seconds=120)), "method": "Traders/GetTraderConfig"}, 1),
        (
            {
                "start_time": stamp(START + timedelta(seconds=60)),
                "end_time": stamp(START + timedelta(seconds=180)),
                "principal": "token:bootstrap-engine",
            },
            2,
        ),
    ],
)
async def test_each_field_narrows_the_list(told: RunningService, fields: dict[str, Any], number: int) -> None:
    assert len(await events(told, **fields)) == number


async def test_what_is_listed_is_on_record(told: RunningService) -> None:
    await events(told, user_id=USER)
    record = await told.last_record("principal", "method", "user_id", "outcome")
    assert record == ("token:bootstrap-admin", PREFIX + "Admin/ListAuditEvents", USER, "OK")


async def test_a_token_that_is_limited_to_a_user_sees_what_concerns_that_user(told: RunningService) -> None:
    admin = told.client(token=await told.make_token("admin", USER)).admin
    page = await admin.ListAuditEvents(pb.ListAuditEventsRequest())
    assert page.events and {event.user_id for event in page.events} == {USER}
    other = admin.ListAuditEvents(pb.ListAuditEventsRequest(user_id="default"))
    await refused(other, Code.NOT_FOUND, "NOT_FOUND")
    await refused(admin.VerifyAudit(pb.VerifyAuditRequest()), Code.PERMISSION_DENIED, "PERMISSION_DENIED")


@pytest.mark.parametrize(
    ("fields", "violation"),
    [
        ({"start_time": Timestamp(seconds=10**15)}, "start_time"),
        ({"end_time": Timestamp(nanos=-1)}, "end_time"),
        ({"outcome": 9}, "outcome"),
        ({"principal": "a\nb"}, "principal"),
        ({"page_size": 1001}, "page_size"),
        ({"page_token": "x"}, "page_token"),
    ],
)
async def test_what_cannot_be_listed_is_named(service: RunningService, fields: dict[str, Any], violation: str) -> None:
    call = service.client().admin.ListAuditEvents(pb.ListAuditEventsRequest(**fields))
    reason = "INVALID_PAGE_TOKEN" if violation == "page_token" else "INVALID_ARGUMENT"
    assert violation in (await refused(call, Code.INVALID_ARGUMENT, reason)).violations


@pytest.mark.parametrize("role", ["gateway", "engine", "viewer"])
async def test_the_audit_log_is_the_admins(service: RunningService, role: str) -> None:
    admin = service.client(role).admin
    for call in (
        admin.ListAuditEvents(pb.ListAuditEventsRequest()),
        admin.VerifyAudit(pb.VerifyAuditRequest()),
        admin.ExportAuditHead(pb.ExportAuditHeadRequest()),
        admin.PruneAudit(pb.PruneAuditRequest(before=stamp(START))),
    ):
        await refused(call, Code.PERMISSION_DENIED, "PERMISSION_DENIED")


# ---- reveals of what is not there


async def test_whoever_tries_ids_is_seen(service: RunningService) -> None:
    await make_exchange(service)
    engine = service.client("engine")
    exchange = exchanges_pb2.AccessExchangeCredentialsRequest(user_id=USER, id="guessed")
    model = models_pb2.AccessModelCredentialsRequest(user_id=USER, id="guessed")
    calls: dict[str, Callable[[], Any]] = {
        "Traders/GetTraderConfig": lambda: reveal(service, "guessed"),
        "Exchanges/AccessExchangeCredentials": lambda: engine.exchanges.AccessExchangeCredentials(exchange),
        "Models/AccessModelCredentials": lambda: engine.models.AccessModelCredentials(model),
    }
    for method, call in calls.items():
        await refused(call(), Code.NOT_FOUND, "NOT_FOUND")
        record = await service.last_record("method", "user_id", "resources", "outcome", "reason")
        assert record == (PREFIX + method, USER, "guessed", "FAILED", "NOT_FOUND")
