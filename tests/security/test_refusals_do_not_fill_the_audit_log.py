"""Whoever is refused again and again is on record, and neither fills the audit log nor hides what others do."""

from dataclasses import replace
from datetime import UTC, datetime

import grpc

from nofx_grpc.rpc.refusals import LEFT_OUT, PER_MINUTE, Refusals
from nofx_grpc.store.audit import AuditRecord
from nofx_grpc.v1 import exchanges_pb2
from tests.support.service import Client, RunningService, refused

MORE = 10
BINANCE = exchanges_pb2.GetExchangeRequest(user_id="default", id="binance")
ACCESS = exchanges_pb2.AccessExchangeCredentialsRequest(user_id="default", id="binance")
DENIED = (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
HIDDEN = (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
UNKNOWN = (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


async def test_denials_of_a_valid_token_are_counted_where_they_are_too_many(service: RunningService) -> None:
    viewer = service.client("viewer")
    for _ in range(PER_MINUTE + MORE):
        await refused(viewer.exchanges.AccessExchangeCredentials(ACCESS), *DENIED)
    assert await outcomes(service, "token:bootstrap-viewer") == [("PERMISSION_DENIED", "")] * PER_MINUTE
    await service.app.housekeeping.sweep()
    assert (await outcomes(service, "token:bootstrap-viewer"))[PER_MINUTE:] == [(LEFT_OUT, f"{MORE} refusals")]
    await service.app.housekeeping.sweep()
    assert len(await outcomes(service, "token:bootstrap-viewer")) == PER_MINUTE + 1


async def test_what_was_left_out_is_on_record_when_the_process_ends(service: RunningService) -> None:
    for _ in range(PER_MINUTE + MORE):
        await refused(service.anonymous().exchanges.GetExchange(BINANCE), *UNKNOWN)
    await service.app.housekeeping.end()
    assert (await outcomes(service, "anonymous"))[PER_MINUTE:] == [(LEFT_OUT, f"{MORE} refusals")]


async def test_strangers_do_not_hide_that_a_revoked_token_is_used(service: RunningService) -> None:
    secret = await service.make_token("engine", revoked_at=datetime.now(UTC))
    await flood(service.anonymous(), PER_MINUTE + MORE)
    await flood(service.client(token=secret), 1)
    assert await outcomes(service, f"token:{secret[-8:]}") == [("UNAUTHENTICATED", "")]


async def test_one_token_does_not_hide_what_another_is_denied(service: RunningService) -> None:
    one, other = service.client("viewer"), service.client("gateway")
    for _ in range(PER_MINUTE + MORE):
        await refused(one.exchanges.AccessExchangeCredentials(ACCESS), *DENIED)
    await refused(other.exchanges.AccessExchangeCredentials(ACCESS), *DENIED)
    assert await outcomes(service, "token:bootstrap-gateway") == [("PERMISSION_DENIED", "")]


async def test_a_record_of_a_denial_is_as_short_as_what_is_allowed(service: RunningService) -> None:
    """A name that is refused is not checked yet: it may be as long as a request, and steer a terminal."""
    client = service.client(token=await service.make_token("viewer", "default"))
    name = "\x1b[2J\0" + "x" * 30_000
    request = exchanges_pb2.GetExchangeRequest(user_id=name, id=name)
    await refused(client.exchanges.GetExchange(request), *HIDDEN)
    ((user_id, resources),) = await service.rows("SELECT user_id, resources FROM audit_log WHERE reason = 'NOT_FOUND'")
    for text in (user_id, resources):
        assert text.startswith("\\x1b[2J\\x00xxx") and len(text) == 512


async def test_denials_of_users_that_a_token_may_not_see_are_counted_too(service: RunningService) -> None:
    secret = await service.make_token("viewer", "default")
    request, client = exchanges_pb2.GetExchangeRequest(user_id="ada", id="x"), service.client(token=secret)
    for _ in range(PER_MINUTE + MORE):
        await refused(client.exchanges.GetExchange(request), *HIDDEN)
    assert len(await outcomes(service, f"token:{secret[-8:]}")) == PER_MINUTE


def test_a_new_minute_has_room_again_and_what_is_over_is_forgotten() -> None:
    now = [0.0]
    refusals = Refusals(2, lambda: now[0])
    record = AuditRecord("a", "viewer", "/x/Y", "ipv4:127.0.0.1:1", outcome="DENIED", reason="R")
    assert [refusals.spend(record) for _ in range(4)] == [True, True, False, False]
    assert refusals.spend(replace(record, principal="b"))
    now[0] = 60
    assert [refusals.spend(record) for _ in range(3)] == [True, True, False]
    (left_out,) = refusals.left_out()
    assert left_out == replace(record, resources="3 refusals", reason=LEFT_OUT)
    assert list(refusals.left_out()) == []
    now[0] = 120
    assert list(refusals.left_out()) == [] and refusals.spend(record)


def test_what_could_not_be_put_on_record_is_not_forgotten() -> None:
    now = [0.0]
    refusals = Refusals(0, lambda: now[0])
    record = AuditRecord("a", "viewer", "/x/Y", "ipv4:127.0.0.1:1", outcome="DENIED", reason="R")
    for principal in ("a", "b"):
        assert not refusals.spend(replace(record, principal=principal))
    writing = refusals.left_out()
    assert [next(writing).principal, next(writing).principal] == ["a", "b"]
    writing.close()  # as b could not be written
    now[0] = 120
    assert [left_out.principal for left_out in refusals.left_out()] == ["b"]
    assert list(refusals.left_out()) == []


async def flood(client: Client, calls: int) -> None:
    for _ in range(calls):
        await refused(client.exchanges.GetExchange(BINANCE), *UNKNOWN)


async def outcomes(service: RunningService, principal: str) -> list[tuple[str, ...]]:
    """Reason and resources of each refusal of a principal that is on record, in order."""
    sql = "SELECT reason, resources FROM audit_log WHERE principal = ? AND outcome <> 'OK' ORDER BY chain_position"
    return await service.rows(sql, principal)
