"""Copies, backups and restores hold a batch at a time, however much there is."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nofx_grpc.store import users
from nofx_grpc.store.backend import backend_for
from nofx_grpc.store.engine import Connection
from nofx_grpc.store.moving import backups, restore
from nofx_grpc.store.moving.copy import copy_store
from tests.store.support import make_sqlite, user
from tests.store.test_copying import ignore
from tests.support.clock import FakeClock

MIB = 1024 * 1024


@contextmanager
def at_most(bytes: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < bytes, f"{peak / MIB:.1f} MiB"


def large_users(connection: Connection) -> None:
    for number in range(400):
        users.resource.create(connection, user(f"u{number}", otp_secret="x" * 100_000))


async def test_large_rows_are_copied_a_few_at_a_time(tmp_path: Path, clock: FakeClock) -> None:
    """40 MB of them: a batch of a thousand would hold all."""
    store = make_sqlite(tmp_path, clock)
    async with store.open() as database:
        await database.write(large_users)
    with at_most(24 * MIB):
        copied = copy_store(store.connect(), backend_for(f"sqlite:///{tmp_path / 'copy.db'}"), ignore)
    assert copied.tables["users"].rows == 401


def test_an_archive_is_not_remembered(tmp_path: Path) -> None:
    """Of 2,000 files, each of which would take most of a kilobyte."""
    logs = tmp_path / "logs"
    for folder in range(20):
        (logs / f"trader{folder}").mkdir(parents=True)
        for number in range(100):
            (logs / f"trader{folder}" / f"{number}.json").write_text("{}")
    with at_most(MIB // 2):
        backups._pack(logs, tmp_path / "logs.tar")
    with at_most(MIB // 2):
        restore._unpack(tmp_path / "logs.tar", tmp_path / "unpacked")
    assert len(list((tmp_path / "unpacked").glob("*/*.json"))) == 2_000
