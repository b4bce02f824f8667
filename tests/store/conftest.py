"""One store for each engine: every test that asks for it runs on all of them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from nofx_grpc.store.engine import Database
from tests.store.support import Store, Watched, make_sqlite, postgresql_store
from tests.support.clock import FakeClock


@pytest.fixture
def store(engine: str, tmp_path: Path, clock: FakeClock) -> Iterator[Store]:
    """A migrated store that nobody has opened yet."""
    if engine == "sqlite":
        yield make_sqlite(tmp_path, clock)
        return
    with postgresql_store(clock) as made:
        yield made


@pytest.fixture
def watched(store: Store) -> Watched:
    """The backend of `database`."""
    return Watched(store.connect())


@pytest.fixture
async def database(store: Store, watched: Watched) -> AsyncIterator[Database]:
    """The open store.  Its writer waits 0.3 seconds for a lock."""
    async with store.open(watched, lock_timeout=0.3) as opened:
        yield opened
