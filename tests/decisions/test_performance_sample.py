"""The sample's statistics and performance are those of NOFX's program, over both homes and on both engines."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from nofx_grpc.decisions.records import facts, parse
from nofx_grpc.store.decisions import index
from nofx_grpc.store.decisions.bodies import compress
from nofx_grpc.store.decisions.entries import entry_of
from nofx_grpc.v1 import performance_pb2 as pb
from tests.decisions.performance import performance, statistics
from tests.decisions.support import Logs
from tests.support.clock import FakeClock
from tests.support.sample_logs import EXPECTED, LOGS, differences, go_duration, nanoseconds
from tests.support.service import running_service

TRADERS = sorted(EXPECTED)


@pytest.fixture(params=["files", "imported"])
async def sample(
    request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock, database_env: dict[str, str]
) -> AsyncIterator[Logs]:
    """The sample's logs: as files that NOFX left in the folder, and put into the database one by one."""
    home = "files" if request.param == "files" else "database"
    env = database_env | {"NOFX_GRPC_DECISION_LOGS": home}
    async with running_service(tmp_path / "data", clock=clock, env=env) as service:
        logs = await Logs.of(service)
        for trader in TRADERS:
            await logs.add_trader(trader, "alice")
            for path in sorted((LOGS / trader).iterdir()):
                if home == "files":
                    logs.put(path.name, path.read_bytes(), trader)
                else:
                    await put_into_database(logs, trader, path.stem, path.read_bytes())
        yield logs


async def put_into_database(logs: Logs, trader: str, id: str, body: bytes) -> None:
    entry = entry_of(id, facts(parse(body)), size=len(body))
    await logs.service.app.db.write(index.add, trader, trader, [entry], (), [compress(body)])


@pytest.mark.parametrize("trader", TRADERS)
async def test_statistics_of_the_sample(sample: Logs, trader: str) -> None:
    found = await statistics(sample, trader)
    expected = EXPECTED[trader]["statistics"]
    assert {name: getattr(found, name) for name in expected} == expected
    assert found.last_time.ToNanoseconds() - found.first_time.ToNanoseconds() > 3_600 * 10**9
    assert (found.total_partial_closes > 0, found.unreadable_files) == (True, 0)


@pytest.mark.parametrize("trader", TRADERS)
async def test_performance_of_the_sample(sample: Logs, trader: str) -> None:
    found = await performance(sample, trader)
    expected = EXPECTED[trader]["performance_lookback_100"]
    assert differences(as_nofx_shows(found.nofx), as_expected(expected)) == []
    assert (found.cycles, found.actual.total_trades) == (EXPECTED[trader]["readable"], expected["total_trades"])
    assert found.actual.total_pnl == pytest.approx(found.nofx.total_pnl)
    assert len(found.equity_curve) == found.cycles - unread(trader)
    assert found.max_drawdown.amount > 0 and not found.open_positions


def unread(trader: str) -> int:
    return sum(b'"total_balance": 0,' in path.read_bytes() for path in (LOGS / trader).iterdir())


def as_nofx_shows(reading: pb.PerformanceReading) -> dict[str, Any]:
    """The message with the names of NOFX's JSON."""
    shown = {name: getattr(reading, name) for name in ("total_trades", "winning_trades", "losing_trades", "win_rate")}
    shown |= {"avg_win": reading.average_win, "avg_loss": reading.average_loss}
    shown |= {name: getattr(reading, name) for name in ("profit_factor", "sharpe_ratio", "best_symbol", "worst_symbol")}
    shown["recent_trades"] = [trade_as_shown(found) for found in reading.recent_trades]
    shown["symbol_stats"] = {
        found.symbol: {
            "symbol": found.symbol,
            "total_trades": found.total_trades,
            "winning_trades": found.winning_trades,
            "losing_trades": found.losing_trades,
            "win_rate": found.win_rate,
            "total_pn_l": found.total_pnl,
            "avg_pn_l": found.average_pnl,
        }
        for found in reading.symbols
    }
    return shown


def trade_as_shown(found: pb.Trade) -> dict[str, Any]:
    same = ("symbol", "quantity", "leverage", "open_price", "close_price", "position_value", "margin_used")
    return {name: getattr(found, name) for name in same} | {
        "side": pb.PositionSide.Name(found.side).removeprefix("POSITION_SIDE_").lower(),
        "pn_l": found.pnl,
        "pn_l_pct": found.pnl_percent,
        "duration": found.duration.ToNanoseconds(),
        "open_time": found.open_time.ToNanoseconds(),
        "close_time": found.close_time.ToNanoseconds(),
        "was_stop_loss": found.closed_by_exchange,
    }


def as_expected(expected: dict[str, Any]) -> dict[str, Any]:
    def with_numbers(found: dict[str, Any]) -> dict[str, Any]:
        times = {name: nanoseconds(found[name]) for name in ("open_time", "close_time")}
        return found | times | {"duration": go_duration(found["duration"])}

    return expected | {"recent_trades": [with_numbers(found) for found in expected["recent_trades"]]}
