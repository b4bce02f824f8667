"""The promises of Watch under random load, and that each checker sees when one is broken."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from nofx_grpc.services import subscriptions
from nofx_grpc.services.feed import Feed
from nofx_grpc.services.subscriptions import Reached, Subscription
from nofx_grpc.store import changes
from nofx_grpc.store.changes import Commit
from tests.support.places import PastSqlite
from tests.support.service import RunningService, running_service
from tests.support.watch_checks import CHECKERS
from tests.support.watch_run import new_seed, perform, revoke
from tests.support.watch_scene import Run

ENV = {
    "NOFX_GRPC_WATCH_BOOKMARK_SECONDS": "0.1",
    "NOFX_GRPC_WATCH_POLL_MILLISECONDS": "20",
    "NOFX_GRPC_WATCH_QUEUE_REVISIONS": "50",
}


class InProcess:
    """A server in this process that can be ended and started again on the same data."""

    def __init__(self, data: Path) -> None:
        self._data, self._stack = data, AsyncExitStack()
        self.service: RunningService
        self.address = ""

    @property
    def past(self) -> PastSqlite:
        return PastSqlite(self._data / "nofx.db")

    def token(self, role: str) -> str:
        return (self._data / "tokens" / role).read_text()

    async def start(self) -> None:
        self.service = await self._stack.enter_async_context(running_service(self._data, env=ENV))
        self.address = self.service.address

    async def stop(self) -> None:
        await self._stack.aclose()

    async def compact(self, last: int) -> None:
        await self.service.app.db.write(changes.compact, last, 500)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[InProcess]:
    made = InProcess(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def test_the_promises_are_kept_whatever_happens(place: InProcess) -> None:
    run = Run(place, random.Random(new_seed()))  # noqa: S311 - a seed can be repeated
    over: list[str] = []

    async def chaos() -> None:
        for misfortune in ("compact", "revoke", "restart", "revoke", "compact"):
            await asyncio.sleep(0.5)
            if misfortune == "revoke":
                await revoke(run)
            elif misfortune == "restart":
                await place.stop()
                await place.start()
            else:
                run.read_log()
                await place.compact(max(run.truth.log) - 20)
        over.append("chaos")

    await perform(run, writers=4, watchers=12, until=lambda: over and enough(run, 200), chaos=chaos)
    assert run.complaints() == {}
    assert "REVISION_IN_FUTURE" not in run.refused
    events = [event for watched in run.watchers for session in watched.sessions for event in session.events]
    told = {event.what: sum(other.what == event.what for other in events) for event in events}
    assert min(told[what] for what in ("snapshot", "synced", "changes", "bookmark")) > 10, told
    assert any(len(life) > 1 for watched in run.watchers for life in watched.lives()), "nobody resumed"


def enough(run: Run, writes: int) -> bool:
    """Whether so much was written, and streams resumed often enough, however slow the machine is."""
    sessions = [session for watched in run.watchers for session in watched.sessions]
    return run.writes >= writes and sum(session.start is not None for session in sessions) >= 10


# ---- the checkers, with a fault put in


def drop(commit: Commit) -> list[Commit]:
    return [] if commit.revision % 7 == 0 else [commit]


def double(commit: Commit) -> list[Commit]:
    return [commit, commit] if commit.revision % 7 == 0 else [commit]


def tear(commit: Commit) -> list[Commit]:
    return [commit._replace(changes=commit.changes[:1]), commit._replace(changes=commit.changes[1:])]


def before_its_commit(commit: Commit) -> list[Commit]:
    return [commit, commit._replace(revision=commit.revision + 50)] if commit.revision % 7 == 0 else [commit]


class Reorder:
    """Holds a commit back until the next one has come."""

    def __init__(self) -> None:
        self._held: list[Commit] = []

    def __call__(self, commit: Commit) -> list[Commit]:
        if commit.revision % 7 == 0:
            self._held = [commit]
            return []
        held, self._held = self._held, []
        return [commit, *held]


def faulty_feed(monkeypatch: pytest.MonkeyPatch, fault: Callable[[Commit], list[Commit]]) -> None:
    publish = Feed._publish

    def faulty(feed: Feed, commit: Commit) -> None:
        for instead in fault(commit):
            publish(feed, instead)

    monkeypatch.setattr(Feed, "_publish", faulty)


def early_bookmarks(monkeypatch: pytest.MonkeyPatch, _: Any) -> None:
    following = Subscription.next

    async def faulty(self: Subscription) -> Any:
        item = await following(self)
        waits = item if self._queue else None
        return Reached(self._queue[-1].commit.revision) if waits else item

    monkeypatch.setattr(subscriptions.Subscription, "next", faulty)


def skips_on_resume(monkeypatch: pytest.MonkeyPatch, _: Any) -> None:
    follow = Feed.follow
    monkeypatch.setattr(Feed, "follow", lambda feed, after, history, wanted: follow(feed, after + 3, history, wanted))


FAULTS: dict[str, tuple[str, Callable[[pytest.MonkeyPatch, Any], None], Any]] = {
    "dropped": ("reliable", faulty_feed, drop),
    "doubled": ("unique", faulty_feed, double),
    "reordered": ("ordered", faulty_feed, Reorder()),
    "torn": ("atomic", faulty_feed, tear),
    "before its commit": ("committed", faulty_feed, before_its_commit),
    "bookmarked early": ("bookmarkable", early_bookmarks, None),
    "skipped on resume": ("resumable", skips_on_resume, None),
}


def test_every_checker_has_a_fault_to_see() -> None:
    assert {checker for checker, _, _ in FAULTS.values()} == set(CHECKERS)


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_is_seen(place: InProcess, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    checker, put_in, fault = FAULTS[name]
    run = Run(place, random.Random(1))  # noqa: S311 - a seed can be repeated

    async def nothing() -> None:
        pass

    put_in(monkeypatch, fault)
    await perform(run, writers=3, watchers=6, until=lambda: enough(run, 80), chaos=nothing)
    assert run.complaints().get(checker)
