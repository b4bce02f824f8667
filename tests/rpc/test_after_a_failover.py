"""Answers after a failover that nobody has noticed by reading: each tells the history that its revision is in."""

from dataclasses import replace
from typing import Any

import grpc
import pytest

from tests.rpc.test_gate import BINANCE, OKX, trailing
from tests.support.service import RunningService

FAILOVER = "UPDATE store_state SET history_id = 'after a failover'"


async def test_the_answer_to_a_write_tells_the_history_that_it_is_in(service: RunningService) -> None:
    await service.execute(FAILOVER)
    await (write := service.client().exchanges.CreateExchange(OKX))
    assert (await trailing(write))["nofx-history"] == "after a failover"


async def test_who_waits_for_a_revision_of_a_lost_history_is_told(service: RunningService) -> None:
    service.app.gate.limits = replace(service.app.gate.limits, min_revision_seconds=0.1)
    await service.execute(FAILOVER)
    client = service.client(**{"nofx-min-revision": "1000"})
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.exchanges.GetExchange(BINANCE)
    assert dict(refused.value.trailing_metadata() or ())["nofx-history"] == "after a failover"


async def test_a_write_that_began_before_it_does_not_bring_the_old_history_back(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = service.app.db
    submit = db._writer.submit

    async def answered_late(*args: Any, **kwargs: Any) -> Any:
        done = await submit(*args, **kwargs)
        await db.latest()  # which somebody else asks for meanwhile
        return done

    monkeypatch.setattr(db._writer, "submit", answered_late)
    await service.execute(FAILOVER)
    assert db.history_id == "after a failover"
