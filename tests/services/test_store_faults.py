"""A database that is locked, full or read-only: what callers are told, and that nothing is half-written."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from nofx_grpc.store.engine import Connection
from nofx_grpc.v1 import traders_pb2 as pb
from tests.support.rows import USER, make_trader
from tests.support.service import RunningService, refused, running_service

Code = grpc.StatusCode
LOCK_SECONDS = "0.3"


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    """A service that does not wait long for a lock."""
    env = {"NOFX_GRPC_LOCK_TIMEOUT_SECONDS": LOCK_SECONDS}
    async with running_service(tmp_path / "data", env=env) as running:
        yield running


async def rename(service: RunningService, trader: pb.Trader, name: str) -> pb.Trader:
    changed = pb.Trader(user_id=USER, id=trader.id, name=name)
    request = pb.UpdateTraderRequest(trader=changed, update_mask=FieldMask(paths=["name"]))
    return await service.client().traders.UpdateTrader(request)


async def config(service: RunningService, trader: pb.Trader) -> pb.TraderConfig:
    request = pb.GetTraderConfigRequest(user_id=USER, trader_id=trader.id)
    return await service.client("engine").traders.GetTraderConfig(request)


async def pragma(service: RunningService, text: str) -> Any:
    """Set a pragma on the connection that writes."""

    def run(connection: Connection) -> Any:
        return connection.connection.cursor().execute(f"PRAGMA {text}").fetchone()

    return (await service.app.db.write(run)).value


async def test_a_locked_database(service: RunningService) -> None:
    """Whoever waits is told at once, together, and not one after the other; reads go on; a reveal needs its record."""
    trader = await make_trader(service)
    with closing(sqlite3.connect(service.data_dir / "nofx.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with service.nothing_written():
            calls = [
                refused(rename(service, trader, f"n{n}"), Code.UNAVAILABLE, "STORE_UNAVAILABLE") for n in range(20)
            ]
            refusals = await asyncio.wait_for(asyncio.gather(*calls), timeout=10)
            assert {refusal.text for refusal in refusals} == {"the database is locked by another process"}
            assert all(refusal.retry_seconds for refusal in refusals)
            await refused(config(service, trader), Code.UNAVAILABLE, "AUDIT_UNAVAILABLE")
            read = await service.client().traders.GetTrader(pb.GetTraderRequest(user_id=USER, id=trader.id))
            assert read == trader
        other.execute("ROLLBACK")
    assert (await rename(service, trader, "after")).name == "after"
    assert (await config(service, trader)).trader.name == "after"


async def test_a_full_database(service: RunningService) -> None:
    """Of a batch of writes none is half-done, all callers get the error, and the store goes on when there is room."""
    trader = await make_trader(service)
    pages = (await pragma(service, "page_count"))[0]
    await pragma(service, f"max_page_count = {pages}")
    long = "long name " * 25
    outcomes = await asyncio.gather(
        *(rename(service, trader, f"{long}{n}") for n in range(200)), return_exceptions=True
    )
    failed = [outcome for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
    assert failed, "the database must have filled up"
    for error in failed:
        refusal = await refused(_raise(error), Code.RESOURCE_EXHAUSTED, "STORE_FULL")
        assert refusal.text == "the database has no room left: nothing was written"
    done = [outcome for outcome in outcomes if isinstance(outcome, pb.Trader)]
    assert len(done) + len(failed) == 200
    logged = await service.rows("SELECT COUNT(*) FROM change_log WHERE kind = 'trader' AND operation = 'update'")
    assert logged == [(len(done),)], "what was acknowledged, and nothing else, is there"
    await pragma(service, "max_page_count = 1000000")
    assert (await rename(service, trader, "room again")).name == "room again"
    assert await service.rows("PRAGMA integrity_check") == [("ok",)]


async def _raise(error: Exception) -> None:
    raise error


async def test_a_read_only_database(service: RunningService) -> None:
    trader = await make_trader(service)
    await pragma(service, "query_only = ON")
    async with service.nothing_written():
        refusal = await refused(rename(service, trader, "x"), Code.UNAVAILABLE, "STORE_UNAVAILABLE")
        assert refusal.text == "the database is read-only"
        await refused(config(service, trader), Code.UNAVAILABLE, "AUDIT_UNAVAILABLE")
        read = await service.client().traders.GetTrader(pb.GetTraderRequest(user_id=USER, id=trader.id))
        assert read == trader
