"""Fixtures that every test may ask for."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.clock import FakeClock
from tests.support.service import RunningService, running_service


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def service(tmp_path: Path, clock: FakeClock) -> AsyncIterator[RunningService]:
    """A fresh service whose clock is moved by hand."""
    async with running_service(tmp_path / "data", clock=clock) as running:
        yield running
