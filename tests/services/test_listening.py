"""What another server writes: PostgreSQL tells of it at once, and without that the poll finds it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from nofx_grpc.store import postgresql_listen
from nofx_grpc.store.backend import backend_for
from nofx_grpc.store.postgresql_listen import CHANNEL
from tests.support.service import RunningService, new_postgresql, running_service
from tests.support.watching import Watching, create_exchange, named, until

LISTENING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"


@pytest.fixture
def postgresql(tmp_path: Path) -> Iterator[dict[str, str]]:
    with new_postgresql(tmp_path / "data") as env:
        yield env


@pytest.fixture
async def writer(tmp_path: Path, postgresql: dict[str, str]) -> AsyncIterator[RunningService]:
    """A server whose writes another one is to hear of."""
    async with running_service(tmp_path / "data", env=postgresql) as running:
        yield running


@pytest.fixture
async def deaf(tmp_path: Path, writer: RunningService, postgresql: dict[str, str]) -> AsyncIterator[RunningService]:
    """A server that would not look at the log for a minute."""
    env = postgresql | {"NOFX_GRPC_WATCH_POLL_MILLISECONDS": "60000"}
    async with running_service(tmp_path / "data", env=env) as running:
        yield running


async def until_listening(service: RunningService, number: int = 1) -> list[int]:
    """The sessions that listen, as soon as they are so many."""
    found: list[int] = []
    async with asyncio.timeout(10):
        while len(found) != number:
            await asyncio.sleep(0.02)
            found = [pid for (pid,) in await service.rows(LISTENING)]
    return found


async def test_a_change_by_another_server_is_told_without_a_poll(writer: RunningService, deaf: RunningService) -> None:
    watching = Watching(deaf.client())
    await watching.synced()
    for number in range(5):
        await create_exchange(writer.client(), f"x{number}")
        assert named(await watching.changes()) == [f"CREATE default/x{number}"]


async def test_there_is_one_connection_while_there_are_streams(writer: RunningService) -> None:
    assert await writer.rows(LISTENING) == []
    streams = [Watching(writer.client()) for _ in range(3)]
    for watching in streams:
        await watching.synced()
    await until_listening(writer)
    for watching in streams:
        watching.call.cancel()
    await until_listening(writer, 0)
    assert await Watching(writer.client()).synced()
    await until_listening(writer)


async def test_a_connection_that_is_cut_is_made_again_and_nothing_is_missed(
    writer: RunningService, deaf: RunningService
) -> None:
    watching = Watching(deaf.client())
    await watching.synced()
    for number in range(3):
        (session,) = await until_listening(writer)
        assert await writer.rows("SELECT pg_terminate_backend(?)", session) == [(True,)]
        await create_exchange(writer.client(), f"x{number}")
        assert named(await watching.changes()) == [f"CREATE default/x{number}"]


async def test_a_connection_that_answers_no_more_is_given_up(
    writer: RunningService, deaf: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql_listen, "KEEPALIVE_SECONDS", 0.05)
    asked: list[str] = []
    ask = postgresql_listen._ask

    async def unanswered(connection: object, sql: str) -> None:
        asked.append(sql)
        if asked.count("SELECT 1") == 1 and sql == "SELECT 1":
            raise TimeoutError
        await ask(connection, sql)  # type: ignore[arg-type]  # what it is given is handed on

    monkeypatch.setattr(postgresql_listen, "_ask", unanswered)
    watching = Watching(deaf.client())
    await watching.synced()
    await until(lambda: asked.count("SELECT 1") > 2)
    assert asked[:3] == [f"LISTEN {CHANNEL}", "SELECT 1", f"LISTEN {CHANNEL}"]
    await create_exchange(writer.client(), "okx")
    assert named(await watching.changes()) == ["CREATE default/okx"]


@pytest.mark.parametrize("pooler", ["delivers nothing", "refuses to listen"])
async def test_the_poll_finds_what_nobody_tells_of(
    tmp_path: Path,
    writer: RunningService,
    postgresql: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    pooler: str,
) -> None:
    statement = "SELECT 1" if pooler == "delivers nothing" else "LISTEN to nobody"
    ask = postgresql_listen._ask
    monkeypatch.setattr(postgresql_listen, "_ask", lambda connection, _: ask(connection, statement))
    async with running_service(tmp_path / "data", env=postgresql) as other:
        watching = Watching(other.client())
        await watching.synced()
        for number in range(3):
            await create_exchange(writer.client(), f"x{number}")
            assert named(await watching.changes()) == [f"CREATE default/x{number}"]
        assert await writer.rows(LISTENING) == []


async def test_whatever_is_said_on_the_channel_does_no_harm(deaf: RunningService) -> None:
    watching = Watching(deaf.client())
    await watching.synced()
    for text in ("", "nonsense", "-1", "9" * 30, "0", "1"):
        await deaf.execute(f"NOTIFY {CHANNEL}, '{text}'")
    await create_exchange(deaf.client(), "okx")
    assert named(await watching.changes()) == ["CREATE default/okx"]


async def test_a_write_that_changes_nothing_to_be_watched_is_not_told_of(
    writer: RunningService, postgresql: dict[str, str]
) -> None:
    heard: list[int] = []
    listener = backend_for(postgresql["NOFX_GRPC_DATABASE_URL"]).listener()
    assert listener is not None
    running = asyncio.create_task(listener.run(heard.append))
    await until(lambda: heard == [0])
    await writer.execute("UPDATE tokens SET last_used_at = NULL")
    made = await create_exchange(writer.client(), "okx")
    await until(lambda: heard[1:] == [made.revision])
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_a_database_that_knows_no_notify_is_written_to_all_the_same(
    tmp_path: Path, postgresql: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nofx_grpc.store.postgresql.notify", lambda _: "NOTIFY is no statement here")
    async with running_service(tmp_path / "data", env=postgresql) as service:
        assert (await create_exchange(service.client(), "okx")).revision == await service.revision()


def test_after_failures_without_end_it_still_tries() -> None:
    """A database that has no LISTEN, or is down for a night."""
    pauses = [postgresql_listen.pause_after(failures) for failures in (0, 1, 3, 9, 10_000)]
    assert pauses == [0.1, 0.2, 0.8, 30.0, 30.0]
