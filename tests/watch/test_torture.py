"""The promises of Watch over servers that are killed, through connections that are cut; `make watch-torture` for long.

WATCH_CHANGES says how many changes are made, WATCH_SEED repeats what was chosen at random in a run.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.places import PLACES, Servers, running
from tests.support.watch_checks import Truth
from tests.support.watch_run import new_seed, perform, revoke
from tests.support.watch_scene import Run

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1800)]

CHANGES = int(os.environ.get("WATCH_CHANGES", "200"))
WRITERS, WATCHERS = (8, 50) if CHANGES > 1000 else (4, 12)
MISFORTUNES = ("compact", "back up", "cut", "revoke", "slow", "restore", "fast", "kill", "restart")


@pytest.fixture(params=PLACES)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Servers]:
    async with running(PLACES[request.param](tmp_path)) as made:
        yield made


async def happen(misfortune: str, run: Run, place: Servers) -> None:
    match misfortune:
        case "compact":
            compact(run)
        case "back up":
            place.past.back_up()
        case "revoke":
            await revoke(run)
        case "cut" | "slow" | "fast":
            disturb(misfortune, place)
        case "restart" | "kill":
            how = signal.SIGTERM if misfortune == "restart" else signal.SIGKILL
            await asyncio.to_thread(place.replace_one, how)
        case "restore":
            await asyncio.to_thread(restore, run, place)


def disturb(misfortune: str, place: Servers) -> None:
    for proxy in place.proxies:
        if misfortune == "cut":
            proxy.cut()
        else:
            proxy.delay = 0.02 if misfortune == "slow" else 0


def compact(run: Run) -> None:
    run.read_log()
    last = max(run.truth.log) - 50
    run.place.past.execute(
        ("UPDATE store_state SET compacted_revision = ? WHERE compacted_revision < ?", last, last),
        ("DELETE FROM change_log WHERE revision <= ?", last),
    )


def restore(run: Run, place: Servers) -> None:
    """Back to what was backed up, with a history of its own."""
    place.stop(signal.SIGKILL)
    run.read_log()
    known = run.truth
    place.past.restore()
    place.past.execute(("UPDATE store_state SET history_id = ?", f"history {run.random.random()}"))
    last = run.revision()
    run.begin_history(Truth(known.base, {revision: told for revision, told in known.log.items() if revision <= last}))
    place.start()


async def test_the_promises_are_kept_by_servers_that_are_killed(place: Servers) -> None:
    run = Run(place, random.Random(new_seed()))  # noqa: S311 - a seed can be repeated
    met: list[str] = []
    began = time.monotonic()

    async def chaos() -> None:
        while not done():
            first_round = len(met) < len(MISFORTUNES)
            await asyncio.sleep(0.4 if first_round else 1 + 3 * run.random.random())
            misfortune = MISFORTUNES[len(met)] if first_round else run.random.choice(MISFORTUNES)
            met.append(misfortune)
            await happen(misfortune, run, place)
        for proxy in place.proxies:
            proxy.delay = 0

    def done() -> bool:
        return run.writes >= CHANGES and len(met) >= len(MISFORTUNES)

    await perform(run, writers=WRITERS, watchers=WATCHERS, until=done, chaos=chaos)
    assert run.complaints() == {}
    sessions = sum(len(watched.sessions) for watched in run.watchers)
    told = sum(len(event.told) for watched in run.watchers for session in watched.sessions for event in session.events)
    print(f"{run.writes} writes, {told} changes told on {sessions} streams, refused: {dict(run.refused)},")
    print(f"{len(met)} misfortunes, {len(run.truths)} histories, {time.monotonic() - began:.0f} s")
