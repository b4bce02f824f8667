"""Housekeeping: what has expired goes, in small batches; what fails is tried again."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from nofx_grpc import housekeeping
from nofx_grpc.errors import StoreUnavailable
from nofx_grpc.store import login_tokens, request_ids
from nofx_grpc.store.engine import Connection
from nofx_grpc.v1 import exchanges_pb2 as pb
from tests.support.clock import START, FakeClock
from tests.support.service import RunningService


async def create(service: RunningService, number: int) -> None:
    exchange = pb.Exchange(name="X", type="cex")
    request = pb.CreateExchangeRequest(
        user_id="default", exchange_id=f"x{number}", exchange=exchange, request_id=f"r-{number}"
    )
    await service.client().exchanges.CreateExchange(request)


async def kept(service: RunningService) -> list[str]:
    return [id for (id,) in await service.rows("SELECT request_id FROM request_ids ORDER BY request_id")]


async def test_answers_are_kept_for_their_time(service: RunningService, clock: FakeClock) -> None:
    await create(service, 1)
    clock.advance(hours=12)
    await create(service, 2)
    clock.advance(hours=12)
    await service.app.housekeeping.sweep()
    assert await kept(service) == ["r-1", "r-2"]
    clock.advance(seconds=1)
    await service.app.housekeeping.sweep()
    assert await kept(service) == ["r-2"]


async def test_spent_login_tokens_are_kept_until_they_expire(service: RunningService, clock: FakeClock) -> None:
    await service.app.db.write(login_tokens.spend, "early", START + timedelta(minutes=5))
    await service.app.db.write(login_tokens.spend, "late", START + timedelta(minutes=6))
    clock.advance(minutes=5, seconds=1)
    await service.app.housekeeping.sweep()
    assert await service.rows("SELECT id FROM spent_login_tokens") == [("late",)]


async def test_it_goes_on_until_nothing_is_left(
    service: RunningService, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "AT_ONCE", 2)
    for number in range(5):
        await service.app.db.write(login_tokens.spend, str(number), START)
    clock.advance(hours=1)
    await service.app.housekeeping.sweep()
    assert await service.rows("SELECT count(*) FROM spent_login_tokens") == [(0,)]


async def test_a_batch_takes_the_oldest_and_no_more_than_it_may(service: RunningService) -> None:
    for number in range(3):
        await create(service, number)
        await service.execute(
            "UPDATE request_ids SET created_at = ? WHERE request_id = ?", f"2026-01-0{3 - number}", f"r-{number}"
        )
    forgotten = await service.app.db.write(request_ids.forget_before, START + timedelta(days=9), 2)
    assert forgotten.value == 2 and await kept(service) == ["r-0"]


async def test_registrations_that_were_not_completed_go(service: RunningService, clock: FakeClock) -> None:
    await service.add_users("u-1")
    await service.execute("UPDATE users SET registration_expires_at = ? WHERE id = 'u-1'", "2026-01-02 04:00:00")
    await service.app.housekeeping.sweep()
    assert (1,) in await service.rows("SELECT count(*) FROM users WHERE id = 'u-1'")
    clock.advance(hours=1)
    await service.app.housekeeping.sweep()
    assert await service.rows("SELECT id FROM users WHERE id = 'u-1'") == []


async def test_what_fails_is_logged_and_keeps_nothing_else_from_being_done(
    service: RunningService, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: Connection, before: datetime, limit: int) -> int:
        raise StoreUnavailable("the database is locked by another process")

    await service.app.db.write(login_tokens.spend, "spent", START)
    clock.advance(hours=1)
    monkeypatch.setattr(request_ids, "forget_before", fail)
    with capture_logs() as logged:
        await service.app.housekeeping.sweep()
    assert [(line["event"], line["what"]) for line in logged if line["log_level"] == "error"] == [
        ("housekeeping_failed", "request_ids")
    ]
    assert await service.rows("SELECT id FROM spent_login_tokens") == []


async def test_it_runs_until_it_is_cancelled(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    sweeps = asyncio.Semaphore(0)
    monkeypatch.setattr(housekeeping, "PERIOD_SECONDS", 0.001)

    async def sweep(self: Any) -> None:
        sweeps.release()

    monkeypatch.setattr(housekeeping.Housekeeping, "sweep", sweep)
    task = asyncio.create_task(replace(service.app.housekeeping).run())
    for _ in range(3):
        await sweeps.acquire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
