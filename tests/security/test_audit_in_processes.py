"""Two server processes on one database: a chain each, one head file, and what a kill leaves of both."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nofx_grpc.v1 import admin_pb2_grpc
from nofx_grpc.v1 import audit_pb2 as pb
from tests.support.processes import ServerProcess, environment, run, serving
from tests.support.service import new_postgresql

pytestmark = pytest.mark.e2e
CALLS = 60


@pytest.fixture
def env(engine: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    if engine == "sqlite":
        yield environment(tmp_path / "data")
        return
    with new_postgresql(tmp_path / "data") as url:
        yield environment(tmp_path / "data") | url


async def ask(server: ServerProcess, calls: int) -> None:
    """Leave that many records, several at a time."""
    async with server.channel() as channel:
        stub = admin_pb2_grpc.AdminStub(channel)
        request = pb.ListAuditEventsRequest(page_size=1)
        for _ in range(calls // 10):
            answers: list[Any] = [stub.ListAuditEvents(request, metadata=server.authorization()) for _ in range(10)]
            await asyncio.gather(*answers)


async def verified(server: ServerProcess) -> pb.VerifyAuditResponse:
    async with server.channel() as channel:
        stub = admin_pb2_grpc.AdminStub(channel)
        answer: pb.VerifyAuditResponse = await stub.VerifyAudit(
            pb.VerifyAuditRequest(), metadata=server.authorization()
        )
        return answer


def report_of(env: dict[str, str]) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(run("audit", "verify", "--json", env=env).stdout)
    return report


async def test_two_servers_write_a_chain_each_and_share_the_head_file(env: dict[str, str], tmp_path: Path) -> None:
    with serving(env, tmp_path / "one.log") as one, serving(env, tmp_path / "two.log") as two:
        await asyncio.gather(ask(one, CALLS), ask(two, CALLS))
        for server in (one, two):
            answer = await verified(server)
            assert answer.ok and answer.chain_count >= 2 and answer.record_count >= 2 * CALLS, answer
        assert (one.stop(), two.stop()) == (0, 0)
    report = report_of(env)
    assert report["ok"] and report["newer_count"] == report["unheaded_chain_count"] == 0, "ended in order"
    assert report["record_count"] >= 2 * CALLS + 2


async def test_a_kill_leaves_a_chain_that_is_proven_and_a_head_that_is_not_ahead(
    env: dict[str, str], tmp_path: Path
) -> None:
    """Between COMMIT and the head's write: records without a head, said to be newer, and nothing else."""
    for number in range(3):
        with serving(env, tmp_path / f"{number}.log") as server:
            await ask(server, CALLS)
            server.process.kill()
            server.wait()
    report = report_of(env)
    assert report["ok"] and report["record_count"] >= 3 * CALLS and report["chain_count"] >= 3
    with serving(env, tmp_path / "last.log") as server:
        assert (await verified(server)).ok
        assert server.stop() == 0
    assert report_of(env)["ok"]
