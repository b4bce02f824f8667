"""`nofx-grpc audit`: the log is checked without a server, by whoever has the master key."""

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nofx_grpc.cli.audit import as_json
from nofx_grpc.store.audit_heads import Heads
from nofx_grpc.store.audit_verify import Compared, Kind, Report
from nofx_grpc.v1 import audit_pb2
from tests.support.processes import COMMAND, environment, run
from tests.support.service import new_postgresql

pytestmark = pytest.mark.e2e


@pytest.fixture
def env(engine: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The settings of a store with two records, each of a process of its own."""
    if engine == "sqlite":
        made = environment(tmp_path / "data")
        assert run("migrate", env=made).returncode == 0
        yield with_records(made)
        return
    with new_postgresql(tmp_path / "data") as url:
        yield with_records(environment(tmp_path / "data") | url)


def with_records(env: dict[str, str]) -> dict[str, str]:
    for _ in range(2):
        made = run("token", "create", "--role=viewer", env=env)
        assert made.returncode == 0, made.stderr
    return env


def execute(env: dict[str, str], sql: str) -> None:
    with closing(sqlite3.connect(Path(env["NOFX_GRPC_DATA_DIR"], "nofx.db"), isolation_level=None)) as connection:
        connection.execute(sql)


def test_a_log_that_nobody_touched(env: dict[str, str], tmp_path: Path) -> None:
    ran = run("audit", "verify", "--json", env=env)
    report = json.loads(ran.stdout)
    head = report.pop("heads")[0]
    assert head["source"] == f"the head file {tmp_path}/data/audit.head" and head["chain_count"] == 2 and head["time"]
    assert report == {
        "ok": True,
        "findings": [],
        "finding_count": 0,
        "record_count": 2,
        "chain_count": 2,
        "newer_count": 0,
        "unheaded_chain_count": 0,
        "sealed_later_count": 0,
    }
    assert ran.returncode == 0
    told = run("audit", "verify", env=env)
    assert told.stdout.splitlines()[0] == "2 records in 2 chains" and told.stdout.splitlines()[-1] == "ok"
    assert told.stderr == "", "the progress bar is for terminals"


def test_the_report_has_the_fields_of_the_rpcs_answer() -> None:
    report = Report([Compared("here", Heads("2026-01-01T00:00:00+00:00", {}))])
    report.add(Kind.CHANGED, "a", 1, 1, "text")
    told: dict[str, Any] = as_json(report)
    assert set(told) == set(audit_pb2.VerifyAuditResponse.DESCRIPTOR.fields_by_name)
    assert set(told["findings"][0]) == set(audit_pb2.AuditFinding.DESCRIPTOR.fields_by_name)
    assert set(told["heads"][0]) == set(audit_pb2.AuditHead.DESCRIPTOR.fields_by_name)


@pytest.mark.parametrize("engine", ["sqlite"])
def test_a_finding_is_told_and_is_the_exit_code(env: dict[str, str]) -> None:
    execute(env, "UPDATE audit_log SET principal = '\x1b[31mx'")
    ran = run("audit", "verify", "--json", env=env)
    report = json.loads(ran.stdout)
    assert ran.returncode == 1 and not report["ok"] and report["finding_count"] == 2
    assert {finding["kind"] for finding in report["findings"]} == {"CHANGED"}
    told = run("audit", "verify", env=env)
    assert told.returncode == 1 and told.stdout.splitlines()[-1] == "not ok: 2 findings"


@pytest.mark.parametrize("engine", ["sqlite"])
def test_an_exported_head_finds_what_was_cut_off(env: dict[str, str], tmp_path: Path) -> None:
    exported = run("audit", "export-head", env=env)
    assert exported.returncode == 0
    (tmp_path / "kept").write_text(exported.stdout)
    assert run("audit", "verify", f"--head={tmp_path}/kept", env=env).returncode == 0
    execute(env, "DELETE FROM audit_log")
    Path(env["NOFX_GRPC_DATA_DIR"], "audit.head").unlink()
    assert run("audit", "verify", env=env).returncode == 0, "an empty log without a head is a new one"
    ran = run("audit", "verify", f"--head={tmp_path}/kept", "--json", env=env)
    report = json.loads(ran.stdout)
    assert ran.returncode == 1 and [finding["kind"] for finding in report["findings"]] == ["CUT_OFF"] * 2


@pytest.mark.parametrize("engine", ["sqlite"])
@pytest.mark.parametrize(
    ("arguments", "settings", "code", "text"),
    [
        (["--head=nowhere"], {}, 1, "the head in nowhere cannot be used"),
        (["--head=pyproject.toml"], {}, 1, "not a document of heads"),
        ([], {"DATA_ENCRYPTION_KEY": "22" * 32}, 3, "the master key does not open"),
        ([], {"NOFX_GRPC_DATA_DIR": "/nonexistent"}, 3, "there is no database yet"),
    ],
)
def test_what_cannot_be_verified(
    env: dict[str, str], arguments: list[str], settings: dict[str, str], code: int, text: str
) -> None:
    ran = run("audit", "verify", "--json", *arguments, env=env | settings)
    assert ran.returncode == code and text in json.loads(ran.stdout)["error"]["message"]


@pytest.mark.parametrize("engine", ["sqlite"])
def test_a_terminal_sees_how_far_it_is(env: dict[str, str]) -> None:
    ours, theirs = os.openpty()
    ran = subprocess.run([COMMAND, "audit", "verify"], env=env, stderr=theirs, stdout=subprocess.PIPE, check=True)
    os.close(theirs)
    shown = os.read(ours, 10_000)
    os.close(ours)
    assert b"records" in shown and b"2/2" in shown and ran.stdout.endswith(b"ok\n")
