"""One store for each engine: every test that asks for it runs on all of them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nofx_grpc.store.engine import Database
from tests.store.support import Store, Watched, make_sqlite
from tests.support.clock import FakeClock

ENGINES = {"sqlite": make_sqlite}


@pytest.fixture(params=sorted(ENGINES))
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Store:
    """A migrated store that nobody has opened yet."""
    return ENGINES[request.param](tmp_path, clock)


@pytest.fixture
def watched(store: Store) -> Watched:
    """The backend of `database`."""
    return Watched(store.connect())


@pytest.fixture
async def database(store: Store, watched: Watched) -> AsyncIterator[Database]:
    """The open store.  Its writer waits 0.3 seconds for a lock."""
    async with store.open(watched, lock_timeout=0.3) as opened:
        yield opened
