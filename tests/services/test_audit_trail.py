"""The audit log over a real server: verified, exported, pruned, and each of that on record itself."""

from datetime import datetime, timedelta
from pathlib import Path

import grpc
import pytest

from nofx_grpc.v1 import audit_pb2 as pb
from tests.support.audit import PREFIX, stamp, verified
from tests.support.clock import START, FakeClock
from tests.support.service import RunningService, refused, running_service

Code = grpc.StatusCode
# ---- VerifyAudit and ExportAuditHead


async def test_a_log_that_nobody_touched_is_ok(told: RunningService) -> None:
    answer = await verified(told)
    assert answer.ok and answer.finding_count == 0 and not answer.findings
    (number,) = (await told.rows("SELECT count(*) FROM audit_log"))[0]
    assert (answer.record_count, answer.chain_count, answer.newer_count) == (number - 1, 1, 0), (
        "its own record came later"
    )
    assert (answer.unheaded_chain_count, answer.sealed_later_count) == (0, 0)
    (head,) = answer.heads
    assert head.source == f"the head file {told.data_dir / 'audit.head'}" and head.chain_count == 1
    record = await told.last_record("method", "resources", "outcome")
    assert record == (PREFIX + "Admin/VerifyAudit", f"{number - 1} records, 0 findings", "OK")


@pytest.mark.parametrize(
    ("sql", "kind", "first", "last"),
    [
        ("UPDATE audit_log SET principal = 'token:innocent' WHERE chain_position = 3", "CHANGED", 3, 3),
        ("DELETE FROM audit_log WHERE chain_position = 3", "MISSING", 3, 3),
        ("DELETE FROM audit_log WHERE chain_position > 3", "CUT_OFF", 4, 7),
    ],
)
async def test_what_was_done_to_the_log_is_found(
    told: RunningService, sql: str, kind: str, first: int, last: int
) -> None:
    await told.execute(sql)
    answer = await verified(told)
    (finding,) = answer.findings
    assert not answer.ok and answer.finding_count == 1 and finding.description and finding.chain_id
    assert pb.AuditFindingKind.Name(finding.kind) == f"AUDIT_FINDING_KIND_{kind}"
    assert finding.first_position == first and finding.last_position == last
    assert await told.last_record("outcome", "reason") == ("FAILED", "AUDIT_BROKEN")


async def test_an_exported_head_tells_what_the_head_file_does_not(told: RunningService) -> None:
    """Somebody has the database and the server's files, old copies too, but not what was kept elsewhere."""
    exported = await told.client().admin.ExportAuditHead(pb.ExportAuditHeadRequest())
    assert (exported.chain_count, exported.record_count) == (1, 7)
    assert await told.last_record("method", "resources", "outcome") == (
        PREFIX + "Admin/ExportAuditHead",
        "1 chains",
        "OK",
    )
    assert (await verified(told, exported.head)).ok
    chain = (await told.rows("SELECT chain_id FROM audit_log"))[0][0]
    await told.execute("DELETE FROM audit_log WHERE chain_id = ?", chain)
    heads = told.app.db.heads
    assert heads is not None
    heads.file.path.unlink()
    found = [pb.AuditFindingKind.Name(finding.kind) for finding in (await verified(told, exported.head)).findings]
    assert "AUDIT_FINDING_KIND_CUT_OFF" in found


async def test_a_head_that_was_not_exported_here_is_refused(service: RunningService, tmp_path: Path) -> None:
    async with running_service(tmp_path / "other") as other:
        await other.client().admin.ListAuditEvents(pb.ListAuditEventsRequest())
        exported = await other.client().admin.ExportAuditHead(pb.ExportAuditHeadRequest())
    for head, text in ((exported.head, "another database"), ("{}", "not a document of heads")):
        call = service.client().admin.VerifyAudit(pb.VerifyAuditRequest(head=head))
        refusal = await refused(call, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
        assert text in refusal.violations["head"]


async def test_a_head_file_that_was_tampered_with_is_a_finding_until_it_is_moved_away(told: RunningService) -> None:
    await verified(told)
    path = told.data_dir / "audit.head"
    path.write_text(path.read_text().replace("Z-", "Z_"))
    before = path.read_bytes()
    for _ in range(2):
        (finding,) = (await verified(told)).findings[:1]
        assert finding.kind == pb.AUDIT_FINDING_KIND_HEAD_DAMAGED and str(path) in finding.description
    assert path.read_bytes() == before
    path.rename(told.data_dir / "kept.head")
    assert (await verified(told)).ok


# ---- PruneAudit


async def test_old_records_are_pruned_and_the_rest_is_still_proven(told: RunningService) -> None:
    before = stamp(START + timedelta(seconds=120))
    answer = await told.client().admin.PruneAudit(pb.PruneAuditRequest(before=before))
    assert answer.pruned_count == 4
    assert await told.rows("SELECT min(chain_position), max(chain_position) FROM audit_log") == [(5, 8)]
    assert (await told.rows("SELECT position FROM audit_anchors")) == [(4,)]
    record = await told.last_record("method", "resources", "outcome")
    assert record == (PREFIX + "Admin/PruneAudit", "records before 2026-01-02T03:06:05.678901+00:00", "OK")
    assert (await verified(told)).ok
    await told.execute("DELETE FROM audit_log WHERE chain_position <= 6")
    (finding,) = (await verified(told)).findings
    assert (finding.kind, finding.first_position, finding.last_position) == (pb.AUDIT_FINDING_KIND_MISSING, 5, 6)


async def test_more_records_than_go_at_once_are_pruned(service: RunningService, clock: FakeClock) -> None:
    for _ in range(450):
        await service.app.db.write(lambda _: None)
    client = service.client()
    for _ in range(450):
        await client.admin.ListAuditEvents(pb.ListAuditEventsRequest(page_size=1))
    clock.advance(seconds=60)
    answer = await client.admin.PruneAudit(pb.PruneAuditRequest(before=stamp(clock.now)))
    assert answer.pruned_count >= 450
    assert (await verified(service)).ok


async def test_what_is_broken_is_pruned_by_force_only(told: RunningService, clock: FakeClock) -> None:
    await told.execute("UPDATE audit_log SET resources = '' WHERE chain_position = 3")
    request = pb.PruneAuditRequest(before=stamp(clock.now))
    refusal = await refused(told.client().admin.PruneAudit(request), Code.FAILED_PRECONDITION, "AUDIT_BROKEN")
    assert refusal.metadata["chain_position"] == "3" and "record 3" in refusal.text
    assert await told.last_record("outcome", "reason") == ("FAILED", "AUDIT_BROKEN")
    request.force = True
    assert (await told.client().admin.PruneAudit(request)).pruned_count == 7
    assert (await verified(told)).ok


@pytest.mark.parametrize("before", [None, START + timedelta(days=1)])
async def test_only_what_has_passed_is_pruned(service: RunningService, before: datetime | None) -> None:
    request = pb.PruneAuditRequest(before=None if before is None else stamp(before))
    call = service.client().admin.PruneAudit(request)
    assert "before" in (await refused(call, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")).violations


async def test_a_chain_that_was_pruned_away_leaves_the_head_file(
    tmp_path: Path, clock: FakeClock, database_env: dict[str, str]
) -> None:
    async with running_service(tmp_path / "data", clock=clock, env=database_env) as first:
        await first.client().admin.ListAuditEvents(pb.ListAuditEventsRequest())
        exported = await first.client().admin.ExportAuditHead(pb.ExportAuditHeadRequest())
    clock.advance(seconds=60)
    async with running_service(tmp_path / "data", clock=clock, env=database_env) as second:
        await second.client().admin.PruneAudit(pb.PruneAuditRequest(before=stamp(clock.now)))
        answer = await verified(second, exported.head)
        assert answer.ok and [head.chain_count for head in answer.heads] == [1, 1]
