"""What watchers cost: a thousand on one process, a thousand engines that come back at once, and a large fleet streamed.

`make bench-watch`.  The server is a process of its own over an adopted store of 100,000 traders; each watcher has a
connection of its own.  The watchers are in this process, which shares the machine with the server: the times are what
both together manage, CPU and memory are the server's alone.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import uvloop
from rich.console import Console

from benchmarks.adoption import TRADERS_OF_A_USER, build
from benchmarks.quick import cpu_seconds, server
from nofx_grpc.v1 import exchanges_pb2, exchanges_pb2_grpc, traders_pb2, traders_pb2_grpc, watch_pb2, watch_pb2_grpc
from tests.support import nofx_db

WATCHERS = int(os.environ.get("BENCH_WATCHERS", "1000"))
TRADERS = int(os.environ.get("BENCH_TRADERS", "100000"))
CHANGES = int(os.environ.get("BENCH_CHANGES", "50"))
SECONDS = 120.0

print_line = Console(highlight=False, soft_wrap=True).print


class Server:
    """The server under measurement, and calls to it with the token of a role."""

    def __init__(self, directory: Path) -> None:
        self._data, self._stack = directory / "data", ExitStack()
        self.address = f"unix:{directory}/bench.sock"
        self.pid = 0

    def start(self) -> None:
        env = {
            "NOFX_GRPC_DATA_DIR": str(self._data),
            "NOFX_GRPC_LISTEN": self.address,
            "NOFX_GRPC_MAX_CONCURRENT_RPCS": str(WATCHERS + 100),
            "NOFX_GRPC_MAX_CALLS_PER_PRINCIPAL": str(WATCHERS + 100),
            "NOFX_GRPC_MAX_STREAMS_PER_PRINCIPAL": str(WATCHERS + 100),
            "DATA_ENCRYPTION_KEY": nofx_db.KEY,
        }
        self.pid = self._stack.enter_context(server("server.py", **env))[0].pid

    def kill(self) -> None:
        os.kill(self.pid, 9)
        self._stack.close()

    def metadata(self, role: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {(self._data / 'tokens' / role).read_text()}"),)

    def channel(self) -> grpc.aio.Channel:
        """A connection of its own."""
        return grpc.aio.insecure_channel(self.address, options=[("grpc.use_local_subchannel_pool", 1)])

    def memory(self, which: str = "VmRSS") -> float:
        """Mebibytes that the process has now, or has had at most (VmHWM) since `forget_peak`."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{which}:")) / 1024

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


def adopted(directory: Path) -> Server:
    build(directory / "config.db", TRADERS)
    env = os.environ | {"NOFX_GRPC_DATA_DIR": str(directory / "data"), "DATA_ENCRYPTION_KEY": nofx_db.KEY}
    command = [str(Path(sys.executable).with_name("nofx-grpc")), "adopt", str(directory / "config.db")]
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
    return Server(directory)


# ---- Watch


async def watchers(bench: Server, name: str, request: Callable[[int], watch_pb2.WatchRequest]) -> None:
    """Open all streams, then change one exchange after the other, each when all have heard of the one before."""
    heard, arrived = 0, asyncio.Event()
    channels = [bench.channel() for _ in range(WATCHERS)]
    before = bench.memory()

    async def watch(number: int, ready: asyncio.Event) -> None:
        nonlocal heard
        stub = watch_pb2_grpc.WatchStub(channels[number])
        call: Any = stub.Watch(request(number), metadata=bench.metadata("viewer"))
        async for response in call:
            if response.HasField("synced"):
                ready.set()
            elif response.HasField("changes"):
                heard += 1
                if heard == WATCHERS:
                    arrived.set()

    started = time.perf_counter()
    ready = [asyncio.Event() for _ in range(WATCHERS)]
    tasks = [asyncio.create_task(watch(number, ready[number])) for number in range(WATCHERS)]
    await asyncio.wait_for(asyncio.gather(*(event.wait() for event in ready)), SECONDS)
    opened = time.perf_counter() - started
    per_watcher = (bench.memory() - before) * 1024 / WATCHERS

    delays, cpu = [], cpu_seconds(bench.pid)
    async with bench.channel() as channel:
        exchanges = exchanges_pb2_grpc.ExchangesStub(channel)
        for _ in range(CHANGES):
            heard = 0
            arrived.clear()
            exchange = exchanges_pb2.Exchange(user_id="u0", id="binance", name=f"n{time.time_ns()}")
            update = exchanges_pb2.UpdateExchangeRequest(exchange=exchange)
            await exchanges.UpdateExchange(update, metadata=bench.metadata("admin"))
            committed = time.perf_counter()
            await asyncio.wait_for(arrived.wait(), SECONDS)
            delays.append((time.perf_counter() - committed) * 1000)
    cpu = (cpu_seconds(bench.pid) - cpu) / CHANGES / WATCHERS * 1e6
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(*(channel.close() for channel in channels))
    print_line(
        f"{WATCHERS} watchers, {name}: opened in {opened:.1f} s, {per_watcher:.0f} KiB each; commit to last delivery"
        f" p50 {statistics.median(delays):.0f}, p99 {percentile(delays, 0.99):.0f}, max {max(delays):.0f} ms;"
        f" {cpu:.0f} µs of CPU for each delivery"
    )


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


# ---- engines


async def engines_come_back(bench: Server) -> None:
    """Kill the server under a thousand engines, and start it again: all come back at once."""
    users = TRADERS // TRADERS_OF_A_USER
    errors: list[grpc.aio.AioRpcError] = []
    channels = [bench.channel() for _ in range(WATCHERS)]
    waits: list[float] = []

    async def hold(number: int) -> Any:
        """Open a stream, and read it until its client holds the state of one revision."""
        stub = traders_pb2_grpc.TradersStub(channels[number])
        request = traders_pb2.WatchTraderConfigsRequest(user_id=f"u{number % users}")
        began = time.perf_counter()
        call: Any = stub.WatchTraderConfigs(request, metadata=bench.metadata("engine"), wait_for_ready=True)
        try:
            while not (await call.read()).synced:
                pass
        except grpc.aio.AioRpcError as error:
            errors.append(error)
        waits.append(time.perf_counter() - began)
        return call

    async def all_hold(name: str) -> list[Any]:
        waits.clear()
        cpu = cpu_seconds(bench.pid)
        calls = await asyncio.wait_for(asyncio.gather(*map(hold, range(WATCHERS))), SECONDS)
        spent = (cpu_seconds(bench.pid) - cpu) / WATCHERS * 1e6
        print_line(
            f"{WATCHERS} engines of {TRADERS_OF_A_USER} traders {name}: all hold theirs after {max(waits):.1f} s"
            f" (median {statistics.median(waits):.1f}), {spent:.0f} µs of CPU each, {len(errors)} errors,"
            f" {bench.memory():.0f} MiB"
        )
        return calls

    await all_hold("for the first time")
    await asyncio.to_thread(bench.kill)
    await asyncio.to_thread(bench.start)
    calls = await all_hold("come back to a killed server")
    for call in calls:
        call.cancel()
    await all_hold("come back to a running server")
    await asyncio.gather(*(channel.close() for channel in channels))


# ---- a fleet


async def fleet(bench: Server, name: str, readers: int, pause: Callable[[int], Awaitable[object]]) -> None:
    """Stream all configurations to some readers; `pause` is what one does after each message."""
    bench.forget_peak()
    before = bench.memory()

    async def read() -> int:
        async with bench.channel() as channel:
            stub = traders_pb2_grpc.TradersStub(channel)
            call: Any = stub.StreamTraderConfigs(
                traders_pb2.StreamTraderConfigsRequest(), metadata=bench.metadata("engine")
            )
            configs = messages = 0
            async for response in call:
                configs, messages = configs + len(response.configs), messages + 1
                await pause(messages)
            return configs

    started, cpu = time.perf_counter(), cpu_seconds(bench.pid)
    counts = await asyncio.gather(*(read() for _ in range(readers)))
    seconds, spent = time.perf_counter() - started, (cpu_seconds(bench.pid) - cpu) / sum(counts) * 1e6
    if min(counts) < TRADERS:
        raise SystemExit(f"of {TRADERS} configurations {min(counts)} came")
    print_line(
        f"{TRADERS:,} configurations to {name}: {seconds:.1f} s, {spent:.0f} µs of CPU for each; the server had"
        f" {before:.0f} MiB before and {bench.memory('VmHWM'):.0f} at most"
    )


async def no_pause(_: int) -> None:
    pass


async def stop_for_a_while(messages: int) -> None:
    """A reader that reads nothing for ten seconds, twice."""
    if messages in {2, 500}:
        await asyncio.sleep(10)


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        bench = adopted(Path(directory))
        bench.start()
        try:
            exchanges = [watch_pb2.RESOURCE_KIND_EXCHANGE]
            print_line(f"load average {os.getloadavg()[0]:.1f}")
            await fleet(bench, "one reader", 1, no_pause)
            await fleet(bench, "one that stops", 1, stop_for_a_while)
            await fleet(bench, "five readers", 5, no_pause)
            await watchers(bench, "all alike", lambda _: watch_pb2.WatchRequest(kinds=exchanges))
            await watchers(bench, "each of a user of its own, or of all", own_or_all)
            await engines_come_back(bench)
        finally:
            bench.kill()


def own_or_all(number: int) -> watch_pb2.WatchRequest:
    return watch_pb2.WatchRequest(user_id="u0" if number % 2 else "")


if __name__ == "__main__":
    uvloop.run(main())
