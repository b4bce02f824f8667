"""`nofx-grpc audit`: checks the audit log without a server, for whoever has the master key."""

from collections.abc import Callable
from pathlib import Path

from nofx_grpc.app import existing_store, utc_now
from nofx_grpc.cli.reports import CommandFailed
from nofx_grpc.crypto.chain import ChainKey
from nofx_grpc.redaction import escaped
from nofx_grpc.settings import Settings
from nofx_grpc.store import audit_chain, audit_export
from nofx_grpc.store.audit_heads import HeadFile, Heads, HeadsDamaged
from nofx_grpc.store.audit_verify import Compared, Report, Verification
from nofx_grpc.store.reads import HeldReads

_STEP = "records"


def verify(settings: Settings, head: Path | None, tell: Callable[[str, int, int], None]) -> Report:
    """Check every record, and every chain against the head file and the head that was given.

    Raises StartError, and CommandFailed for a head that is none.
    """
    backend, keys = existing_store(settings)
    key = ChainKey(keys.keyring.audit)
    known, wrong = audit_export.known_heads(HeadFile(settings.audit_head_file, key))
    verification = Verification(key, [*known, *([_given(head, key)] if head else [])])
    for kind, text in wrong:
        verification.report.add(kind, "", 0, 0, text)
    reads = HeldReads(backend, keys.follow)
    try:
        total = reads.snapshot(audit_chain.count).value
        while reads.snapshot(verification.step).value:
            tell(_STEP, verification.report.records, max(total, verification.report.records))
    finally:
        reads.close()
    return verification.report


def export(settings: Settings) -> str:
    """The heads of all chains, signed.  Raises StartError, and CommandFailed where the head file is damaged."""
    backend, keys = existing_store(settings)
    key = ChainKey(keys.keyring.audit)
    known, wrong = audit_export.known_heads(HeadFile(settings.audit_head_file, key))
    if wrong:
        raise CommandFailed("AUDIT_BROKEN", wrong[0][1])
    reads = HeldReads(backend, keys.follow)
    try:
        heads = known[0].heads if known else None
        return reads.snapshot(lambda connection: audit_export.export(connection, heads, utc_now())).value.signed(key)
    finally:
        reads.close()


def show(report: Report) -> None:
    """The report for people."""
    print(f"{report.records:,} records in {report.chains:,} chains")
    for source, heads in report.compared:
        print(f"compared with {escaped(source)}, of {heads.at}, which knows {len(heads.chains):,} chains")
    if report.newer or report.unheaded:
        print(f"{report.newer:,} records are newer than that, and of {report.unheaded:,} chains no head is known")
    if report.before:
        print(f"{report.before:,} records are of a release that had no chains: sealed as they were found later")
    for finding in report.findings:
        where = f"chain {finding.chain_id}, record {finding.first}" if finding.chain_id else "the log"
        where += f" to {finding.last}" if finding.last > finding.first else ""
        print(escaped(f"{finding.kind}: {where}: {finding.text}"))
    if report.found > len(report.findings):
        print(f"and {report.found - len(report.findings):,} findings more")
    print("ok" if not report.found else f"not ok: {report.found:,} findings")


def as_json(report: Report) -> dict[str, object]:
    """The report for programs; the fields are those of VerifyAuditResponse."""
    return {
        "ok": not report.found,
        "findings": [
            {
                "kind": str(finding.kind),
                "chain_id": finding.chain_id,
                "first_position": finding.first,
                "last_position": finding.last,
                "description": finding.text,
            }
            for finding in report.findings
        ],
        "finding_count": report.found,
        "record_count": report.records,
        "chain_count": report.chains,
        "heads": [
            {"source": source, "time": heads.at, "chain_count": len(heads.chains)} for source, heads in report.compared
        ],
        "newer_count": report.newer,
        "unheaded_chain_count": report.unheaded,
        "sealed_later_count": report.before,
    }


def _given(path: Path, key: ChainKey) -> Compared:
    try:
        return Compared(str(path), Heads.read(path.read_text(encoding="utf-8"), key))
    except (HeadsDamaged, OSError, UnicodeDecodeError) as error:
        raise CommandFailed("INVALID_ARGUMENT", f"the head in {path} cannot be used: {error}") from error
