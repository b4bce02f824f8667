"""One worker and two: CPU per call of all their processes, and calls per second: `python -m benchmarks.workers`.

Servers of one worker and of two stand side by side, and every case is run on each in turn, round after round; the
table shows the median round.  64 calls are in flight over 16 connections, which the kernel deals out.  The load comes
from two client processes on the same machine, so the calls per second are what all of them together manage.  The URL of
an empty PostgreSQL database may be given; else each server has a SQLite file of its own.
"""

import asyncio
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import grpc
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.quick import cpu_seconds, make_trader, renames, same, server, unary
from nofx_grpc.v1 import traders_pb2

CONNECTIONS = 8  # of each client
IN_FLIGHT = 32  # of each client
CLIENTS = 2
CALLS = int(os.environ.get("BENCH_CALLS", "3000"))  # of each client
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
WORKERS = (1, 2)
METHODS = {"GetTrader": "admin", "GetTraderConfig": "engine", "UpdateTrader": "admin"}

# For each method and number of workers, each round's CPU microseconds per call and calls per second.
Found = dict[tuple[str, int], list[tuple[float, float]]]


class Load(NamedTuple):
    """What one client is to do."""

    address: str
    token: str
    method: str
    trader: bytes
    client: str

    def requests(self) -> Iterator[bytes]:
        trader = traders_pb2.Trader.FromString(self.trader)
        if self.method == "UpdateTrader":
            return renames(trader, self.client)  # or both would write the same, and one of them nothing
        key = {"user_id": trader.user_id}
        if self.method == "GetTrader":
            return same(traders_pb2.GetTraderRequest(**key, id=trader.id))
        return same(traders_pb2.GetTraderConfigRequest(**key, trader_id=trader.id))


def run_load(load: Load) -> None:
    """Make the calls.  Raises AioRpcError if one fails."""
    uvloop.run(_run_load(load))


async def _run_load(load: Load) -> None:
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(load.address, options=options) for _ in range(CONNECTIONS)]
    calls = itertools.cycle(unary(channel, f"/nofx_grpc.v1.Traders/{load.method}", load.token) for channel in channels)
    requests = load.requests()

    async def caller() -> None:
        call = next(calls)
        for _ in range(CALLS // IN_FLIGHT):
            await call(next(requests))

    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
    for channel in channels:
        await channel.close()


def cpu_of_all(pid: int) -> float:
    """CPU seconds so far of a server's process and of its workers."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return cpu_seconds(pid) + sum(cpu_seconds(int(child)) for child in children)


class Server(NamedTuple):
    """A server of some workers, with a trader in its store."""

    pid: int
    workers: int
    address: str
    tokens: Path
    trader: bytes


def start(stack: ExitStack, directory: Path, workers: int, url: str) -> Server:
    data_dir = directory / str(workers)
    env = {
        "NOFX_GRPC_DATA_DIR": str(data_dir),
        "NOFX_GRPC_LISTEN": "127.0.0.1:0",
        "NOFX_GRPC_WORKERS": str(workers),
        "DATA_ENCRYPTION_KEY": "a key of the benchmark",
        **({"NOFX_GRPC_DATABASE_URL": url} if url else {}),
    }
    process, line = stack.enter_context(server("server.py", **env))
    address = line.removeprefix("nofx-grpc serves on ")
    # On PostgreSQL all serve one store, whose first tokens are where it was made.
    tokens = (data_dir if (data_dir / "tokens").exists() else directory / str(WORKERS[0])) / "tokens"

    async def trader() -> bytes:
        async with grpc.aio.insecure_channel(address) as channel:
            made = await make_trader(channel, (tokens / "admin").read_text(), f"bench-{workers}")
            return made.SerializeToString()

    return Server(process.pid, workers, address, tokens, asyncio.run(trader()))


def measure(url: str) -> Found:
    """What came of each round for each method and number of workers; a first round warms up, and does not count."""
    found: Found = {}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        clients = stack.enter_context(ProcessPoolExecutor(CLIENTS, get_context("spawn")))
        servers = [start(stack, directory, workers, url) for workers in WORKERS]
        for round in range(ROUNDS + 1):
            for (method, role), at in itertools.product(METHODS.items(), servers):
                token = (at.tokens / role).read_text()
                loads = [Load(at.address, token, method, at.trader, f"client {n}") for n in range(CLIENTS)]
                cpu, started = cpu_of_all(at.pid), time.perf_counter()
                list(clients.map(run_load, loads))
                calls, seconds = CLIENTS * (CALLS // IN_FLIGHT * IN_FLIGHT), time.perf_counter() - started
                if round:
                    rounds = found.setdefault((method, at.workers), [])
                    rounds.append(((cpu_of_all(at.pid) - cpu) / calls * 1e6, calls / seconds))
    return found


def show(found: Found) -> None:
    table = Table(title=f"{ROUNDS} rounds of {CLIENTS * CALLS} calls; medians")
    for heading in ("call", "workers", "CPU per call", "calls per second"):
        table.add_column(heading, justify="left" if heading == "call" else "right")
    for (method, workers), rounds in found.items():
        cpu, rate = (statistics.median(column) for column in zip(*rounds, strict=True))
        table.add_row(method, str(workers), f"{cpu:.0f} µs", f"{rate:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    show(measure(sys.argv[1] if len(sys.argv) > 1 else ""))
