"""What takes minutes ends within a second of its token, between two portions: nothing is half done."""

import asyncio
import threading
import time
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from nofx_grpc.services import audit_trail, keys
from nofx_grpc.services.decision_keeping import DecisionKeeping
from nofx_grpc.store import audit_prune, beta_codes, tokens
from nofx_grpc.v1 import audit_pb2, beta_codes_pb2, decision_logs_pb2, keys_pb2
from tests.support.clock import FakeClock
from tests.support.service import RunningService, refused
from tests.support.watching import until

Code = grpc.StatusCode

SECONDS = 30.0
# What each long call is at, for hours.
LONG: dict[str, Any] = {
    "VerifyAudit": (audit_trail, "verify", audit_pb2.VerifyAuditRequest()),
    "ExportAuditHead": (audit_trail, "_known_heads", audit_pb2.ExportAuditHeadRequest()),
    "PruneAudit": (audit_trail, "_prune", audit_pb2.PruneAuditRequest(before=Timestamp(seconds=1))),
    "ListKeys": (keys, "count_uses", keys_pb2.ListKeysRequest()),
    "RetireKey": (keys, "count_uses", keys_pb2.RetireKeyRequest()),
    "Reencrypt": (keys, "count_uses", keys_pb2.ReencryptRequest()),
    "PruneDecisions": (
        DecisionKeeping,
        "owned",
        decision_logs_pb2.PruneDecisionsRequest(user_id="default", trader_id="t", keep_count=1),
    ),
}


@pytest.mark.parametrize("engine", ["sqlite"])
@pytest.mark.parametrize(("rpc", "work"), LONG.items(), ids=LONG)
async def test_a_long_call(service: RunningService, monkeypatch: pytest.MonkeyPatch, rpc: str, work: Any) -> None:
    """It ends where it is, whatever it waits for."""
    begun = asyncio.Event()

    async def takes_hours(*_: Any, **__: Any) -> None:
        begun.set()
        await asyncio.sleep(3600)

    place, name, request = work
    if rpc == "RetireKey":
        request.id = (await service.client().admin.RotateKey(keys_pb2.RotateKeyRequest())).previous.id
    monkeypatch.setattr(place, name, takes_hours)
    secret = await service.make_token("admin")
    client = service.client(token=secret)
    stub = client.decision_logs if rpc == "PruneDecisions" else client.admin
    asked = getattr(stub, rpc)(request)
    answer = asked.read() if rpc == "Reencrypt" else asked
    call = asyncio.ensure_future(refused(answer, Code.UNAUTHENTICATED, "UNAUTHENTICATED"))
    await asyncio.wait_for(begun.wait(), SECONDS)
    await service.app.db.write(tokens.revoke, secret[-8:])
    assert (await asyncio.wait_for(call, SECONDS)).text == "the token was revoked"


async def test_pruning_leaves_a_log_that_is_proven(
    service: RunningService, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was pruned before the token ended is gone, with its anchor; whoever prunes next does the rest."""
    for _ in range(300):
        await service.client().admin.ListAuditEvents(audit_pb2.ListAuditEventsRequest(page_size=1))
    clock.advance(minutes=1)
    before = Timestamp()
    before.FromDatetime(clock())
    request = audit_pb2.PruneAuditRequest(before=before)
    steps: list[int] = []

    def slowly(*arguments: Any, **options: Any) -> int:
        time.sleep(0.05)
        steps.append(1)
        return audit_prune.prune(*arguments, **options)

    monkeypatch.setattr(audit_trail, "prune", slowly)
    monkeypatch.setattr(audit_trail, "PRUNED_AT_ONCE", 1)
    secret = await service.make_token("admin")
    call = asyncio.ensure_future(
        refused(service.client(token=secret).admin.PruneAudit(request), Code.UNAUTHENTICATED, "UNAUTHENTICATED")
    )
    await until(lambda: len(steps) > 3)
    await service.app.db.write(tokens.revoke, secret[-8:])
    await asyncio.wait_for(call, SECONDS)
    assert len(steps) < 300
    client = service.client()
    assert (await client.admin.VerifyAudit(audit_pb2.VerifyAuditRequest())).ok
    monkeypatch.undo()
    assert (await client.admin.PruneAudit(request)).pruned_count > 0
    assert (await client.admin.VerifyAudit(audit_pb2.VerifyAuditRequest())).ok


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_a_read_that_took_long_is_not_answered(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be it that it waited for others: only who may still read is told."""
    release = threading.Event()
    monkeypatch.setattr(beta_codes, "count", lambda _: release.wait(30) and beta_codes.Stats(0, 0))
    secret = await service.make_token("viewer")
    client = service.client(token=secret)
    call = client.beta_codes.GetBetaCodeStats(beta_codes_pb2.GetBetaCodeStatsRequest())
    refusal = asyncio.ensure_future(refused(call, Code.UNAUTHENTICATED, "UNAUTHENTICATED"))
    await until(lambda: service.app.gate.usages._calls)
    await service.app.db.write(tokens.revoke, secret[-8:])
    await asyncio.sleep(1.1)  # as long as a token is remembered
    assert not refusal.done()
    release.set()
    assert (await refusal).text == "the token was revoked"
