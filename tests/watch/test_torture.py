"""The promises of Watch over a server that is killed, through connections that are cut; `make watch-torture` for long.

WATCH_CHANGES says how many changes are made, WATCH_SEED repeats a run.
"""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest

from tests.support.processes import ServerProcess, environment, serving
from tests.support.proxy import Proxy, proxy_to
from tests.support.watch_checks import complaints
from tests.support.watch_run import new_seed, perform, revoke
from tests.support.watch_scene import Run

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1800)]

CHANGES = int(os.environ.get("WATCH_CHANGES", "200"))
WRITERS, WATCHERS = (8, 50) if CHANGES > 1000 else (4, 12)
MISFORTUNES = ("compact", "cut", "revoke", "slow", "fast", "kill", "restart", "new history")


class Killed:
    """A server as a process of its own, behind a proxy, on data that outlives it."""

    def __init__(self, directory: Path) -> None:
        self._log = directory / "log"
        self._env = environment(
            directory / "data",
            watch_bookmark_seconds="0.5",
            watch_poll_milliseconds="50",
            watch_queue_revisions="100",
            shutdown_grace_seconds="2",
        )
        self._serving = ExitStack()
        self.server: ServerProcess
        self.proxy: Proxy
        self.start()

    @property
    def address(self) -> str:
        return self.proxy.address

    @property
    def database(self) -> Path:
        return self.server.data_dir / "nofx.db"

    def token(self, role: str) -> str:
        return self.server.token(role)

    def start(self) -> None:
        self.server = self._serving.enter_context(serving(self._env, self._log))

    def end(self, how: signal.Signals) -> None:
        self.server.signal(how)
        self.server.wait()
        self._serving.close()


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Killed]:
    async with AsyncExitStack() as stack:
        made = Killed(tmp_path)
        stack.callback(made.end, signal.SIGKILL)
        made.proxy = await stack.enter_async_context(proxy_to(lambda: made.server.address))
        yield made


async def happen(misfortune: str, run: Run, place: Killed) -> None:
    if misfortune == "compact":
        run.read_log()
        last = max(run.truth.log) - 50
        run.execute(
            ("UPDATE store_state SET compacted_revision = max(compacted_revision, ?)", last),
            ("DELETE FROM change_log WHERE revision <= ?", last),
        )
    elif misfortune == "cut":
        place.proxy.cut()
    elif misfortune == "revoke":
        await revoke(run)
    elif misfortune in {"slow", "fast"}:
        place.proxy.delay = 0.02 if misfortune == "slow" else 0
    else:
        how = signal.SIGTERM if misfortune == "restart" else signal.SIGKILL
        await asyncio.to_thread(place.end, how)
        if misfortune == "new history":
            run.execute(("UPDATE store_state SET history_id = ?", f"history {run.random.random()}"))
        await asyncio.to_thread(place.start)


async def test_the_promises_are_kept_by_a_server_that_is_killed(place: Killed) -> None:
    run = Run(place, random.Random(new_seed()))  # noqa: S311 - a seed can be repeated
    met: list[str] = []

    async def chaos() -> None:
        while run.writes < CHANGES or len(met) < len(MISFORTUNES):
            first_round = len(met) < len(MISFORTUNES)
            await asyncio.sleep(0.4 if first_round else 1 + 3 * run.random.random())
            misfortune = MISFORTUNES[len(met)] if first_round else run.random.choice(MISFORTUNES)
            met.append(misfortune)
            await happen(misfortune, run, place)
        place.proxy.delay = 0

    def done() -> bool:
        return run.writes >= CHANGES and len(met) >= len(MISFORTUNES)

    await perform(run, writers=WRITERS, watchers=WATCHERS, until=done, chaos=chaos)
    assert complaints(run.watchers, run.truth) == {}
    assert "REVISION_IN_FUTURE" not in run.refused
    sessions = sum(len(watched.sessions) for watched in run.watchers)
    print(f"{max(run.truth.log)} revisions, {sessions} streams, refused: {dict(run.refused)}, misfortunes: {len(met)}")
