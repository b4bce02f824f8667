"""Reading decision records where there are very many of them, in a server of its own.

    python -m benchmarks.decision_index [number of traders] [records of each]

The index is filled by SQL, every tenth record with a trade; only the latest records that are asked for have bodies,
which the database keeps.  Then a server is asked, trader by trader, for the latest 20, for statistics and for the
performance over 100 cycles.
"""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc

from benchmarks.decisions import ASKED, COMMAND, ROOT, START, START_SECONDS, content, report
from nofx_grpc.store.decisions.bodies import compress
from nofx_grpc.v1 import decision_logs_pb2 as pb
from nofx_grpc.v1 import decision_logs_pb2_grpc, performance_pb2

LATEST, MINUTES = 20, 3
FILL = """
WITH RECURSIVE cycle(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM cycle WHERE n < :cycles),
made(n, at, trades, price) AS (SELECT n, :start + n * :minutes * 60, n % 20 IN (1, 11), 90000.5 + n % 997 FROM cycle)
INSERT INTO decisions (log_id, id, time_ns, serial, cycle_number, success, size_bytes, mtime_ns, total_balance,
    unrealized_profit, trades, legs)
SELECT :log, 'decision_' || strftime('%Y%m%d_%H%M%S', at, 'unixepoch') || '_cycle' || n, at * 1000000000, n, n, 1,
    2500, 0, 1000.0 + n % 101, 0.5,
    CASE n % 20
        WHEN 1 THEN printf('[["open_long","BTCUSDT",0.1,%.1f,5,%d]]', price, at * 1000000000)
        WHEN 11 THEN printf('[["close_long","BTCUSDT",0.1,%.1f,5,%d]]', price, at * 1000000000) END,
    CASE n % 20
        WHEN 1 THEN printf('[["BTCUSDT","long",0.1,0.1,%.1f,5,%d,0.0]]', price, at * 1000000000)
        WHEN 11 THEN '[]' END
FROM made ORDER BY 2
"""
LOG = """
INSERT INTO decision_logs (id, trader_id, folder, folded_folder, last_cycle, last_serial, total_cycles,
    successful_cycles, opens, closes, size_bytes)
VALUES (:log, :trader, :trader, :trader, :cycles, :cycles, :cycles, :cycles, :cycles / 20, :cycles / 20, :cycles * 2500)
"""


def main(traders: int, cycles: int) -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as directory:
        data_dir, socket = Path(directory, "data"), f"unix:{directory}/socket"
        env = os.environ | {"NOFX_GRPC_DATA_DIR": str(data_dir), "NOFX_GRPC_LISTEN": socket}
        env |= {"NOFX_GRPC_DECISION_LOGS": "database"}
        subprocess.run([COMMAND, "migrate"], cwd=ROOT, env=env, check=True)
        started = time.perf_counter()
        fill(data_dir / "nofx.db", traders, cycles)
        size = (data_dir / "nofx.db").stat().st_size / 2**30
        took = time.perf_counter() - started
        print(f"{traders:,} traders with {cycles:,} records: {size:.1f} GiB, made in {took:.0f} s", flush=True)
        server = subprocess.Popen([sys.executable, "server.py"], cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
        try:
            asyncio.run(measure(socket, data_dir, traders))
        finally:
            server.terminate()
            server.wait()


def fill(path: Path, traders: int, cycles: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for trader in range(traders):
            values = {"log": trader + 1, "trader": f"trader-{trader}", "cycles": cycles}
            connection.execute("BEGIN")
            connection.execute(LOG, values)
            connection.execute(FILL, values | {"start": int(START.timestamp()), "minutes": MINUTES})
            for cycle in range(max(1, cycles - LATEST + 1), cycles + 1):
                at = START + timedelta(minutes=MINUTES * cycle)
                body = compress(json.dumps(content(at, cycle)).encode())
                id = f"decision_{at:%Y%m%d_%H%M%S}_cycle{cycle}"
                connection.execute("INSERT INTO decision_bodies VALUES (?, ?, ?)", (trader + 1, id, body))
            connection.execute("COMMIT")


async def measure(socket: str, data_dir: Path, traders: int) -> None:
    async with grpc.aio.insecure_channel(socket) as channel:
        await asyncio.wait_for(channel.channel_ready(), START_SECONDS)
        metadata = (("authorization", f"Bearer {(data_dir / 'tokens' / 'admin').read_text()}"),)
        stub = decision_logs_pb2_grpc.DecisionLogsStub(channel)

        def call(method: Any, request: Any) -> Any:
            return method(request, metadata=metadata)

        ids = [f"trader-{n * 7919 % traders}" for n in range(ASKED)]
        listed = await call(stub.ListDecisions, pb.ListDecisionsRequest(trader_id=ids[0], page_size=LATEST))
        if len(listed.decisions) != LATEST:
            sys.exit(f"there are {len(listed.decisions)} decisions, and not {LATEST}")
        latest = pb.ListDecisionsRequest
        await report("latest 20", ids, lambda id: call(stub.ListDecisions, latest(trader_id=id, page_size=LATEST)))
        statistics_of = performance_pb2.GetDecisionStatisticsRequest
        await report("statistics", ids, lambda id: call(stub.GetDecisionStatistics, statistics_of(trader_id=id)))
        analyse = performance_pb2.AnalyzePerformanceRequest
        await report("performance of 100", ids, lambda id: call(stub.AnalyzePerformance, analyse(trader_id=id)))


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:]]
    main(*(numbers or [100, 1000]))
