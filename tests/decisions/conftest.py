"""A service for each engine and each home of the records: every test that asks for `logs` runs on all of them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nofx_grpc.store.engine import Database
from tests.decisions.support import Logs
from tests.store.support import make_sqlite, postgresql_store
from tests.support.clock import FakeClock
from tests.support.service import running_service


@pytest.fixture(params=["files", "database"])
def home(request: pytest.FixtureRequest) -> str:
    """Each home of the records in turn."""
    return str(request.param)


@pytest.fixture
async def logs(tmp_path: Path, clock: FakeClock, database_env: dict[str, str], home: str) -> AsyncIterator[Logs]:
    """A fresh service with the traders t and u of alice, and b of bob."""
    env = database_env | {"NOFX_GRPC_DECISION_LOGS": home}
    async with running_service(tmp_path / "data", clock=clock, env=env) as service:
        yield await Logs.of(service)


@pytest.fixture
async def files(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Logs]:
    """As `logs`, on SQLite with the records in files."""
    async with running_service(tmp_path / "data", clock=clock) as service:
        yield await Logs.of(service)


@pytest.fixture
async def two(tmp_path: Path, clock: FakeClock, database_env: dict[str, str]) -> AsyncIterator[tuple[Logs, Logs]]:
    """Two servers of one database that share the directory of the decision logs."""
    async with (
        running_service(tmp_path / "data", clock=clock, env=database_env) as one,
        running_service(tmp_path / "data", clock=clock, env=database_env) as other,
    ):
        yield await Logs.of(one), Logs(other, other.client("admin"))


@pytest.fixture
async def db(engine: str, tmp_path: Path, clock: FakeClock) -> AsyncIterator[Database]:
    """A store without a service, on each engine."""
    if engine == "sqlite":
        async with make_sqlite(tmp_path, clock).open() as opened:
            yield opened
    else:
        with postgresql_store(clock) as store:
            async with store.open() as opened:
                yield opened
