"""Two servers for all races: each race makes what it needs anew."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.races.ring import Ring
from tests.support.outside import assert_revisions_without_gaps
from tests.support.postgresql import database_of, shared_server
from tests.support.processes import ServerProcess, environment, serving
from tests.support.service import new_postgresql


@pytest.fixture(scope="package")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    directory: Path = tmp_path_factory.mktemp("races")
    with new_postgresql(directory / "data") as where:
        env = environment(directory / "data", login_floor_ms="0", lock_timeout_seconds="30") | where
        with serving(env, directory / "one.log") as one, serving(env, directory / "two.log") as two:
            yield one, two
            for server in (one, two):
                assert "internal_error" not in server.log.read_text()
                assert server.stop() == 0


@pytest.fixture
async def ring(servers: tuple[ServerProcess, ServerProcess]) -> AsyncIterator[Ring]:
    """Where both servers are; after each race the log has every revision, once."""
    with shared_server().connect(database_of(servers[0].env["NOFX_GRPC_DATABASE_URL"])) as database:
        ring = Ring(servers, database)
        yield ring
        await ring.close()
        await asyncio.to_thread(assert_revisions_without_gaps, servers[0].env)
