"""Decision records at size: reindexing, reading and appending, in a server of its own.

    python -m benchmarks.decisions [number of traders] [records of each]

The files are written first, as NOFX names them; `nofx-grpc decisions reindex` indexes them (its time and peak memory);
then a server is asked for the latest 20 and for statistics and performance over 100 cycles, trader by trader, and
appends, beside plain file writes with fsync on the same disk.
"""

import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc

from nofx_grpc.v1 import decision_logs_pb2 as pb
from nofx_grpc.v1 import (
    decision_logs_pb2_grpc,
    exchanges_pb2,
    exchanges_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    performance_pb2,
    traders_pb2,
    traders_pb2_grpc,
)

ROOT = Path(__file__).parents[1]
COMMAND = str(Path(sys.executable).with_name("nofx-grpc"))
START = datetime(2025, 1, 1, tzinfo=UTC)
PROMPT = "what the market did, at some length; " * 60
ASKED, APPENDED, APPENDING, START_SECONDS = 200, 400, 32, 60


def main(traders: int, cycles: int) -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as directory:
        data_dir, socket = Path(directory, "data"), f"unix:{directory}/socket"
        env = os.environ | {"NOFX_GRPC_DATA_DIR": str(data_dir), "NOFX_GRPC_LISTEN": socket}
        command = [sys.executable, "server.py"]
        subprocess.run([COMMAND, "migrate"], cwd=ROOT, env=env, check=True)
        write_files(data_dir / "decision_logs", traders, cycles)
        started = time.perf_counter()
        subprocess.run([COMMAND, "decisions", "reindex"], cwd=ROOT, env=env, check=True)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
        print(f"reindex of {traders * cycles:,} files: {time.perf_counter() - started:.0f} s, {peak} MiB at most")
        server = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
        try:
            asyncio.run(measure(socket, data_dir, traders))
        finally:
            server.terminate()
            server.wait()


def write_files(root: Path, traders: int, cycles: int) -> None:
    for trader in range(traders):
        folder = root / f"trader-{trader}"
        folder.mkdir(parents=True)
        for cycle in range(1, cycles + 1):
            at = START + timedelta(minutes=3 * cycle)
            (folder / f"decision_{at:%Y%m%d_%H%M%S}_cycle{cycle}.json").write_text(json.dumps(content(at, cycle)))


def content(at: datetime, cycle: int) -> dict[str, Any]:
    opens = cycle % 20 == 1
    trades = cycle % 20 in {1, 11}
    action = {"action": "open_long" if opens else "close_long", "symbol": "BTCUSDT", "quantity": 0.1, "leverage": 5}
    action |= {"price": 90_000 + cycle % 997, "order_id": 2**60 + cycle, "timestamp": at.isoformat(), "success": True}
    return {
        "timestamp": at.isoformat(),
        "cycle_number": cycle,
        "input_prompt": PROMPT,
        "account_state": {"total_balance": 1000 + cycle % 101, "total_unrealized_profit": 0.5},
        "decisions": [action] if trades else None,
        "success": True,
    }


async def measure(socket: str, data_dir: Path, traders: int) -> None:
    async with grpc.aio.insecure_channel(socket) as channel:
        await asyncio.wait_for(channel.channel_ready(), START_SECONDS)
        token = (data_dir / "tokens" / "admin").read_text()
        metadata = (("authorization", f"Bearer {token}"),)
        stub = decision_logs_pb2_grpc.DecisionLogsStub(channel)

        def call(method: Any, request: Any) -> Any:
            return method(request, metadata=metadata)

        ids = [f"trader-{n * 7919 % traders}" for n in range(ASKED)]
        for id in set(ids):  # a folder is looked through at its first read
            await call(stub.ListDecisions, pb.ListDecisionsRequest(trader_id=id, page_size=1))
        await report(
            "latest 20", ids, lambda id: call(stub.ListDecisions, pb.ListDecisionsRequest(trader_id=id, page_size=20))
        )
        statistics_of = performance_pb2.GetDecisionStatisticsRequest
        await report("statistics", ids, lambda id: call(stub.GetDecisionStatistics, statistics_of(trader_id=id)))
        analyse = performance_pb2.AnalyzePerformanceRequest
        await report("performance of 100", ids, lambda id: call(stub.AnalyzePerformance, analyse(trader_id=id)))
        await make_traders(channel, metadata)
        record = pb.Decision(success=True, input_prompt=PROMPT)

        async def append(trader: int, times: int) -> None:
            request = pb.AppendDecisionRequest(user_id="default", trader_id=f"appended-{trader}", decision=record)
            for _ in range(times):
                await call(stub.AppendDecision, request)

        plain = await asyncio.to_thread(plain_writes, data_dir, len(PROMPT) + 300)
        print(f"plain write, fsync, rename, fsync of the directory: {plain:.0f}/s")
        started = time.perf_counter()
        await append(0, APPENDED)
        print(f"appended one by one: {APPENDED / (time.perf_counter() - started):.0f}/s")
        started = time.perf_counter()
        await asyncio.gather(*(append(n, APPENDED // 4) for n in range(APPENDING)))
        rate = APPENDED // 4 * APPENDING / (time.perf_counter() - started)
        print(f"appended by {APPENDING} traders at one time: {rate:.0f}/s")


async def report(name: str, ids: list[str], ask: Callable[[str], Awaitable[Any]]) -> None:
    took = []
    for id in ids:
        started = time.perf_counter()
        await ask(id)
        took.append((time.perf_counter() - started) * 1000)
    print(f"{name}: median {statistics.median(took):.1f} ms, 95 % within {sorted(took)[int(len(took) * 0.95)]:.1f} ms")


async def make_traders(channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...]) -> None:
    exchange = exchanges_pb2.Exchange(name="X", type="cex")
    await exchanges_pb2_grpc.ExchangesStub(channel).CreateExchange(
        exchanges_pb2.CreateExchangeRequest(user_id="default", exchange_id="x", exchange=exchange), metadata=metadata
    )
    model = models_pb2.Model(name="M", provider="p")
    await models_pb2_grpc.ModelsStub(channel).CreateModel(
        models_pb2.CreateModelRequest(user_id="default", model_id="m", model=model), metadata=metadata
    )
    trader = traders_pb2.Trader(name="T", ai_model_id="m", exchange_id="x", initial_balance=1)
    for n in range(APPENDING):
        request = traders_pb2.CreateTraderRequest(user_id="default", trader_id=f"appended-{n}", trader=trader)
        await traders_pb2_grpc.TradersStub(channel).CreateTrader(request, metadata=metadata)


def plain_writes(directory: Path, size: int) -> float:
    """Files a second, written as an append writes them, without a server."""
    started = time.perf_counter()
    for n in range(APPENDED):
        path = directory / f"plain-{n}"
        with path.with_suffix(".new").open("wb") as file:
            file.write(b"x" * size)
            file.flush()
            os.fsync(file.fileno())
        path.with_suffix(".new").rename(path)
        descriptor = os.open(directory, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    return APPENDED / (time.perf_counter() - started)


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:]]
    main(*(numbers or [100, 1000]))
