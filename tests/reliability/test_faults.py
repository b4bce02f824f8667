"""Two servers on one PostgreSQL under load, and what happens to the database and to them; counts: docs/reliability.md.

After each fault: what was acknowledged is there, nothing was done twice, and revisions have no gap.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from nofx_grpc.v1 import watch_pb2
from tests.reliability.support import check
from tests.support.cluster import Cluster, cluster
from tests.support.load import Load
from tests.support.processes import ServerProcess, environment, serving
from tests.support.service import Client, refusal_of
from tests.support.watching import read

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]


@dataclass
class Place:
    """Two servers on one cluster, and their load."""

    cluster: Cluster
    servers: list[ServerProcess]
    load: Load
    start: Callable[[int], ServerProcess]

    def history(self) -> tuple[str, int]:
        """Which history the store is in, and its revision."""
        ((history_id, revision),) = self.node.execute("SELECT history_id, revision FROM store_state")
        return history_id, revision

    @property
    def node(self) -> Any:
        """The server of the cluster that may be written to."""
        return self.cluster.current


@pytest.fixture
def synchronous() -> bool:
    return True


@pytest.fixture
async def place(tmp_path: Path, synchronous: bool) -> AsyncIterator[Place]:
    with cluster(synchronous=synchronous) as made, ExitStack() as stack:

        def start(number: int) -> ServerProcess:
            env = environment(
                tmp_path / f"data{number}",
                database_url=made.url,
                decision_logs="database",
                DATA_ENCRYPTION_KEY="11" * 32,
            )
            return stack.enter_context(serving(env, tmp_path / f"log{number}"))

        servers = [start(0), start(1)]
        load = Load([server.address for server in servers], servers[0].token("admin"))
        yield Place(made, servers, load, start)


async def restart_the_database(place: Place) -> None:
    await asyncio.to_thread(place.node.stop, "fast")
    await asyncio.to_thread(place.node.start)


async def crash_the_database(place: Place) -> None:
    await asyncio.to_thread(place.node.stop, "immediate")
    await asyncio.to_thread(place.node.start)


async def pause_the_database(place: Place) -> None:
    place.node.pause()
    await asyncio.sleep(4)
    place.node.resume()


async def cut_connections(place: Place) -> None:
    for _ in range(20):
        place.node.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name <> 'standby'"
                           " AND backend_type = 'client backend' AND pid <> pg_backend_pid()")  # fmt: skip
        await asyncio.sleep(0.1)


async def kill_a_server(place: Place) -> None:
    place.servers[0].signal(signal.SIGKILL)


async def stop_a_server(place: Place) -> None:
    place.servers[0].signal(signal.SIGTERM)


async def freeze_a_server(place: Place) -> None:
    """In the middle of a write, which all others wait for."""
    held = (
        "SELECT count(*) FROM pg_stat_activity JOIN pg_locks USING (pid) WHERE relation = 'store_state'::regclass"
        " AND mode = 'RowShareLock' AND state LIKE 'idle in transaction%' AND state_change < now() - interval '0.1 s'"
    )
    for _ in range(200):
        place.servers[0].signal(signal.SIGSTOP)
        await asyncio.sleep(0.2)
        if place.node.execute(held) != [(0,)]:
            return
        place.servers[0].signal(signal.SIGCONT)
        await asyncio.sleep(0.05)
    raise AssertionError("it was never caught in the middle of a write")


async def fail_over(place: Place) -> None:
    await asyncio.to_thread(place.cluster.fail_over)


FAULTS: dict[str, Callable[[Place], Awaitable[None]]] = {
    "the database is restarted": restart_the_database,
    "the database crashes": crash_the_database,
    "the database is paused": pause_the_database,
    "connections are cut": cut_connections,
    "a server is killed": kill_a_server,
    "a server is stopped": stop_a_server,
    "a server is frozen": freeze_a_server,
    "the primary is lost, with synchronous replication": fail_over,
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_nothing_is_lost_and_nothing_done_twice(place: Place, fault: Callable[[Place], Awaitable[None]]) -> None:
    history, _ = place.history()
    place.load.start()
    await place.load.reach(100)
    await fault(place)
    await place.load.reach(200)
    await place.load.stop()
    check(place.node, place.load)
    if fault is freeze_a_server:
        assert not place.load.refused["STORE_UNAVAILABLE"], "it lost its turn before anybody had waited for too long"
    promoted = fault is fail_over
    assert (place.history()[0] != history) == promoted
    print(
        f"{len(place.load.acknowledged)} acknowledged, {dict(place.load.refused)} refused,"
        f" {place.load.longest_wait:.1f} s without an answer"
    )


@pytest.mark.parametrize("synchronous", [False])
async def test_what_an_asynchronous_standby_lacks_is_noticed(place: Place) -> None:
    """Acknowledged writes are lost then.  Whoever has seen them is told, and goes on from a new snapshot."""
    history, _ = place.history()
    place.load.start()
    await place.load.reach(50)
    watchers = [Client(server.address, place.load.token) for server in place.servers]
    streams: list[Any] = [client.watch.Watch(watch_pb2.WatchRequest()) for client in watchers]
    for stream in streams:
        assert (await read(stream)).history_id == history
    place.cluster.part()
    before = set(place.load.acknowledged)
    await place.load.reach(100)
    await place.load.stop()
    _, seen = place.history()
    await fail_over(place)

    _, left = place.history()
    assert left < seen
    lost = [id for id, revision in place.load.acknowledged.items() if revision > left]
    assert lost and not before & set(lost)

    # Revisions are given again, past those that were lost.
    again = Load(place.load.addresses, place.load.token, "second", writers=1)
    again.start()
    await again.until(lambda: place.history()[1] > seen)
    await again.stop()
    assert place.history()[0] != history
    for stream in streams:
        assert await reason_of(stream) == "HISTORY_CHANGED"
    for client in watchers:
        resumed = client.watch.Watch(watch_pb2.WatchRequest(start_revision=seen, history_id=history))
        assert await reason_of(resumed) == "HISTORY_CHANGED"
        await client.close()
    print(f"{len(place.load.acknowledged)} acknowledged, {len(lost)} of them lost")


async def reason_of(stream: Any) -> str:
    """Why a stream ends; all that it tells before is read."""
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        async with asyncio.timeout(60):
            while await stream.read() is not grpc.aio.EOF:
                pass
    return refusal_of(ended.value).reason
