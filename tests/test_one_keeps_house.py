"""Of several processes over one store one keeps house, and another one when it ends or dies."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from nofx_grpc.store import processes
from nofx_grpc.v1 import exchanges_pb2
from tests.support.clock import FakeClock
from tests.support.service import RunningService, running_service
from tests.support.watching import create_exchange


@pytest.fixture
async def other(
    service: RunningService, tmp_path: Path, clock: FakeClock, database_env: dict[str, str]
) -> AsyncIterator[RunningService]:
    """A second server over the store of `service`."""
    async with running_service(tmp_path / "data", clock=clock, env=database_env) as running:
        yield running


async def keeps_house(service: RunningService) -> bool:
    """Whether a sweep of this server cleans up what has expired."""
    await service.execute("INSERT INTO spent_login_tokens (id, expires_at) VALUES ('old', '2020-01-01 00:00:00+00:00')")
    await service.app.housekeeping.sweep()
    done = await service.rows("SELECT id FROM spent_login_tokens") == []
    await service.execute("DELETE FROM spent_login_tokens")
    return done


async def move_back(service: RunningService, by: timedelta) -> None:
    """Let the servers have checked in at another time, as if the database's clock had been moved."""
    for id, at in await service.rows("SELECT id, checked_in_at FROM processes"):
        moved = processes.processes.c.checked_in_at.type.process_result_value(at, None) - by  # type: ignore[attr-defined]
        await service.execute("UPDATE processes SET checked_in_at = ? WHERE id = ?", str(moved), id)


async def test_one_at_a_time(service: RunningService, other: RunningService) -> None:
    assert [await keeps_house(one) for one in (service, other, service, other)] == [True, False, True, False]


async def test_when_it_ends_another_takes_over_at_once(service: RunningService, other: RunningService) -> None:
    assert [await keeps_house(one) for one in (service, other)] == [True, False]
    await service.app.housekeeping.end()
    assert [await keeps_house(one) for one in (other, service)] == [True, False]


async def test_when_it_dies_another_takes_over(service: RunningService, other: RunningService) -> None:
    assert [await keeps_house(one) for one in (service, other)] == [True, False]
    await move_back(service, processes.LIFETIME - timedelta(minutes=1))
    assert not await keeps_house(other)
    await move_back(service, processes.LIFETIME + timedelta(minutes=1))
    assert await keeps_house(other)
    assert not await keeps_house(service), "one that was only slow does not take it back"


@pytest.mark.parametrize("by", [timedelta(hours=5), timedelta(hours=-5)])
async def test_a_clock_that_is_set_keeps_nobody_from_it(
    service: RunningService, other: RunningService, by: timedelta
) -> None:
    assert [await keeps_house(one) for one in (service, other)] == [True, False]
    await move_back(service, by)
    assert [await keeps_house(one) for one in (other, service, other)] == [True, False, True]
    assert len(await service.rows("SELECT id FROM processes")) == 2


async def test_changes_that_another_process_needs_are_kept(
    service: RunningService, other: RunningService, clock: FakeClock
) -> None:
    made = [await create_exchange(service.client(), f"x{number}") for number in range(4)]
    await service.app.housekeeping.sweep()
    with other.app.feed.holding(made[1].revision):
        await other.app.housekeeping.sweep()
        clock.advance(hours=25)
        await service.app.housekeeping.sweep()
        assert await service.rows("SELECT compacted_revision FROM store_state") == [(made[1].revision,)]
    await other.app.housekeeping.sweep()
    await service.app.housekeeping.sweep()
    assert await service.rows("SELECT compacted_revision FROM store_state") == [(made[3].revision,)]


async def test_which_tokens_were_used_is_noted_by_each(service: RunningService, other: RunningService) -> None:
    await create_exchange(service.client(), "x")
    await other.client("viewer").exchanges.ListSupportedExchanges(exchanges_pb2.ListSupportedExchangesRequest())
    await service.app.housekeeping.sweep()
    await other.app.housekeeping.sweep()
    used = await service.rows("SELECT id FROM tokens WHERE last_used_at IS NOT NULL ORDER BY id")
    assert used == [("bootstrap-admin",), ("bootstrap-viewer",)]
