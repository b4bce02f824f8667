"""Fixtures that every test may ask for."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.clock import FakeClock
from tests.support.service import RunningService, new_postgresql, new_sqlite, running_service


def pytest_xdist_auto_num_workers() -> int:
    """Three for two cores: a third of the time of a test is waiting, for processes that start and for disks."""
    told = os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS")
    return int(told) if told else max(1, (os.cpu_count() or 1) * 3 // 2)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine in turn: what depends on this runs once on each of them."""
    return str(request.param)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def database_env(engine: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A new store in the data directory `tmp_path / "data"`, and the settings that say where its database is."""
    if engine == "sqlite":
        new_sqlite(tmp_path / "data")
        yield {}
        return
    with new_postgresql(tmp_path / "data") as env:
        yield env


@pytest.fixture
async def service(tmp_path: Path, clock: FakeClock, database_env: dict[str, str]) -> AsyncIterator[RunningService]:
    """A fresh service whose clock is moved by hand."""
    async with running_service(tmp_path / "data", clock=clock, env=database_env) as running:
        yield running
