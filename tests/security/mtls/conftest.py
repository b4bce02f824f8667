"""A server that client certificates get in at."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.security.mtls.callers import POLICY
from tests.support.certificates import MutualTls
from tests.support.service import RunningService, running_service


@pytest.fixture
def mtls(tmp_path: Path) -> MutualTls:
    return MutualTls.made_in(tmp_path, POLICY)


@pytest.fixture
async def service(tmp_path: Path, mtls: MutualTls) -> AsyncIterator[RunningService]:
    async with running_service(tmp_path / "data", env=mtls.settings) as running:
        yield running
