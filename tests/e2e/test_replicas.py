"""Two servers over one PostgreSQL, as processes: one order of all changes, whatever becomes of either."""

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from nofx_grpc.v1 import exchanges_pb2 as pb
from tests.support.outside import assert_revisions_without_gaps
from tests.support.postgresql import database_of, shared_server
from tests.support.processes import ServerProcess, environment, serving
from tests.support.service import Client, new_postgresql, refused

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CALLERS = 20
WRITES = 40
KILL_AFTER = 100


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """Two servers over one store, which do not wait long for a revision."""
    with new_postgresql(tmp_path / "data") as where:
        env = environment(tmp_path / "data", min_revision_wait_seconds="1") | where
        with serving(env, tmp_path / "one.log") as one, serving(env, tmp_path / "two.log") as two:
            yield one, two


class Looker(threading.Thread):
    """Looks at the log again and again while others write: each look is one snapshot."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._database, self._stopped = database_of(url), threading.Event()
        self.looks: list[tuple[int, int]] = []

    def run(self) -> None:
        with shared_server().connect(self._database) as connection:
            while not self._stopped.is_set():
                row = connection.execute("SELECT max(revision), count(DISTINCT revision) FROM change_log").fetchone()
                assert row is not None
                self.looks.append((row[0] or 1, row[1]))

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def create(client: Client, id: str) -> "grpc.aio.UnaryUnaryCall[pb.CreateExchangeRequest, pb.Exchange]":
    exchange = pb.Exchange(name="X", type="cex", api_key=f"key of {id}")
    return client.exchanges.CreateExchange(
        pb.CreateExchangeRequest(user_id="default", exchange_id=id, exchange=exchange, request_id=f"r-{id}")
    )


async def test_revisions_are_in_the_order_of_commits_when_one_is_killed(
    servers: tuple[ServerProcess, ServerProcess],
) -> None:
    one, two = servers
    answered: dict[str, int] = {}
    clients = [Client(server.address, server.token("admin")) for server in servers]

    async def caller(number: int) -> None:
        """Writes at both servers in turn, until one is gone: then at the other, what had no answer once more."""
        at = number % 2
        for count in range(WRITES):
            id = f"{number}-{count}"
            try:
                answered[id] = (await create(clients[at], id)).revision
            except grpc.aio.AioRpcError as error:
                assert error.code() == grpc.StatusCode.UNAVAILABLE, error
                at = 1
                answered[id] = (await create(clients[at], id)).revision
            if len(answered) == KILL_AFTER:
                one.signal(signal.SIGKILL)

    looker = Looker(one.env["NOFX_GRPC_DATABASE_URL"])
    looker.start()
    await asyncio.gather(*map(caller, range(CALLERS)))
    looker.stop()
    assert one.wait() == -signal.SIGKILL
    assert len(set(answered.values())) == len(answered) == CALLERS * WRITES
    assert assert_revisions_without_gaps(two.env) == 1 + CALLERS * WRITES, "each once, also those that were repeated"
    assert len(set(looker.looks)) > 10
    assert all(last == 1 + count for last, count in looker.looks), "no revision is seen before one below it"
    await asyncio.gather(*(client.close() for client in clients))


async def test_a_read_at_one_sees_what_was_written_at_the_other(servers: tuple[ServerProcess, ServerProcess]) -> None:
    writer = Client(servers[0].address, servers[0].token("admin"))
    made = await create(writer, "first")
    for number in range(50):
        made = await create(writer, f"x{number}")
        reader = Client(
            servers[1].address, servers[1].token("viewer"), None, **{"nofx-min-revision": str(made.revision)}
        )
        found = await reader.exchanges.GetExchange(pb.GetExchangeRequest(user_id="default", id=f"x{number}"))
        assert found == made
        await reader.close()
    ahead = Client(
        servers[1].address, servers[1].token("viewer"), None, **{"nofx-min-revision": str(made.revision + 1)}
    )
    get = pb.GetExchangeRequest(user_id="default", id="x0")
    refusal = await refused(ahead.exchanges.GetExchange(get), grpc.StatusCode.UNAVAILABLE, "REVISION_NOT_REACHED")
    assert refusal.retry_seconds is not None
    waiting = asyncio.ensure_future(ahead.exchanges.GetExchange(get))
    started = time.monotonic()
    await asyncio.sleep(0.3)
    assert not waiting.done(), "it waits for the other server"
    await create(writer, "next")
    assert (await waiting).id == "x0" and time.monotonic() - started >= 0.3
    await asyncio.gather(writer.close(), ahead.close())
