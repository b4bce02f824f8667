"""PostgreSQL's disk fills up while a server writes to it; counts: docs/reliability.md.

First there is no room for rows only, and PostgreSQL goes on; then none for its log either, and it goes down.
"""

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from nofx_grpc.v1 import exchanges_pb2 as pb
from tests.reliability.support import check
from tests.support.cluster import Node
from tests.support.disks import Disk, SmallFiles, small_disk
from tests.support.load import Load
from tests.support.postgresql import shared_server
from tests.support.processes import ServerProcess, environment, serving
from tests.support.service import Client

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

MIB = 160  # what a new cluster takes, and twice as much as that of WAL


@dataclass
class Place:
    """A server on a PostgreSQL, the disk of that one, and the load."""

    node: Node
    disk: Disk
    server: ServerProcess
    load: Load


@pytest.fixture(params=["disk", "files"])
def disk_of_a_node(request: pytest.FixtureRequest) -> Iterator[tuple[Disk, Node]]:
    """A running PostgreSQL on a disk of its own, or with files that are kept from growing."""
    directory = Path(tempfile.mkdtemp(prefix="nofx-disk-"))
    user = shared_server().installation[1]
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        place = directory / "data"
        place.mkdir()
        disk = stack.enter_context(small_disk(place, MIB)) if request.param == "disk" else SmallFiles()
        if user is not None:
            shutil.chown(directory, user)
            shutil.chown(place, user)
        node = Node(place)
        node.make("--wal-segsize=1", "--set=fsync=off")  # whose absence only a crash of the machine would show
        stack.callback(node.kill)
        node.start()
        yield disk, node


@pytest.fixture
async def place(tmp_path: Path, disk_of_a_node: tuple[Disk, Node]) -> AsyncIterator[Place]:
    disk, node = disk_of_a_node
    with serving(environment(tmp_path / "data", database_url=node.url), tmp_path / "log") as server:
        yield Place(node, disk, server, Load([server.address], server.token("admin"), size=4_000))


async def test_a_full_disk_refuses_writes_and_undoes_none(place: Place) -> None:
    load, reasons = place.load, place.load.refused
    load.start()
    await load.reach(50)
    client = Client(load.addresses[0], load.token)

    place.disk.fill(place.node)
    await load.until(lambda: reasons[place.disk.refusal] > 20)
    (id, revision), *_ = load.acknowledged.items()
    assert (await client.exchanges.GetExchange(request_for(id))).revision == revision, "what is there can be read"
    place.disk.free(place.node)
    await load.reach(50)
    print(f"no room for rows: {len(load.acknowledged)} acknowledged, {dict(reasons)} refused")
    reasons.clear()

    await asyncio.to_thread(place.disk.fill_with_log, place.node)
    await load.until(lambda: reasons["STORE_UNAVAILABLE"] > 0)
    await load.until(lambda: reasons.total() > 20)
    place.disk.free(place.node)
    freed = time.monotonic()
    await asyncio.to_thread(see_it_up, place.node)
    await load.reach(1)
    recovery = time.monotonic() - freed
    await load.reach(50)
    await load.stop()
    check(place.node, load)
    assert place.disk.says in place.server.log.read_text(), "whoever runs the server is told why"
    print(
        f"no room for the log: {len(load.acknowledged)} acknowledged, {dict(reasons)} refused,"
        f" answered {recovery:.1f} s after there was room"
    )
    await client.close()


def request_for(id: str) -> pb.GetExchangeRequest:
    return pb.GetExchangeRequest(user_id="default", id=id)


def see_it_up(node: Node) -> None:
    """Wait for PostgreSQL to recover; start it where it has given up, for want of room to recover in."""
    for _ in range(20):
        with suppress(psycopg.OperationalError):
            node.execute("SELECT 1")
            return
        time.sleep(0.1)
    if node.processes():
        node.stop("immediate")
    node.start()
