"""kill -9 while one server prunes, and another one looks at the same files: what was pruned is not seen again."""

import asyncio
import json
import signal
import time
from pathlib import Path

import pytest

from nofx_grpc.v1 import decision_logs_pb2 as pb
from nofx_grpc.v1 import performance_pb2
from tests.support.processes import ServerProcess, environment, serving
from tests.support.service import Client

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

COUNT = 1000  # a folder of more is not looked through at each call


def put_records(folder: Path) -> None:
    folder.mkdir()
    for n in range(COUNT):
        at = f"2025-11-18T{n // 3600:02d}:{n // 60 % 60:02d}:{n % 60:02d}Z"
        content = {"timestamp": at, "cycle_number": n, "success": True, "decisions": None}
        (folder / f"decision_20251118_{at[11:19].replace(':', '')}_cycle{n}.json").write_text(json.dumps(content))


def files(folder: Path) -> int:
    return len(list(folder.iterdir()))


async def counted(client: Client) -> int:
    request = performance_pb2.GetDecisionStatisticsRequest(trader_id="t")
    return (await client.decision_logs.GetDecisionStatistics(request)).total_cycles


def kill_while_it_prunes(server: ServerProcess, folder: Path) -> None:
    """Kill a server once the first files are gone; it may be done already where this one has to wait for its turn."""
    until = time.monotonic() + 30
    while files(folder) == COUNT and time.monotonic() < until:
        pass
    server.signal(signal.SIGKILL)


async def prune_until_killed(server: ServerProcess, folder: Path, other: Client) -> list[int]:
    """Have a server prune, and kill it meanwhile; how many records another one has told of, time after time."""
    client, told = Client(server.address, server.token("admin")), [await counted(other)]
    killed = asyncio.create_task(asyncio.to_thread(kill_while_it_prunes, server, folder))
    request = pb.PruneDecisionsRequest(trader_id="t", keep_count=1)
    pruning = asyncio.ensure_future(client.decision_logs.PruneDecisions(request))
    while not killed.done():
        told.append(await counted(other))
    await killed
    await asyncio.wait([pruning])
    await client.close()
    return [*told, await counted(other)]


async def test_what_a_killed_server_has_pruned_is_not_seen_again(tmp_path: Path, database_env: dict[str, str]) -> None:
    env = environment(tmp_path / "data") | database_env
    folder = tmp_path / "data" / "decision_logs" / "t"
    with serving(env, tmp_path / "one.log") as one, serving(env, tmp_path / "other.log") as server:
        put_records(folder)
        other = Client(server.address, server.token("admin"))
        told = await prune_until_killed(one, folder, other)
        left = told[-1]
        assert told[0] == COUNT and told == sorted(told, reverse=True), "none comes back"
        assert 1 <= left <= files(folder) < COUNT
        pruned = await other.decision_logs.PruneDecisions(pb.PruneDecisionsRequest(trader_id="t", keep_count=1))
        assert pruned.deleted_count == left - 1 and await counted(other) == 1
        assert files(folder) == 1, "what the other one has left is deleted, too"
        await other.close()
        one.wait()
        server.stop()
