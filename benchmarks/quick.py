"""CPU per call of the server process, against a bare echo: `make bench-quick`.

Every case is run in turn, round after round, so that all of them meet the same weather; the table shows the median
round.  64 calls are in flight, over Unix sockets.  The load comes from a grpcio client in this process, which shares
the machine with the server: calls per second are what both together manage, CPU per call is the server's alone.
"""

import asyncio
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import uvloop
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table

from nofx_grpc.v1 import exchanges_pb2, exchanges_pb2_grpc, models_pb2, models_pb2_grpc, traders_pb2, traders_pb2_grpc

IN_FLIGHT = 64
CALLS = int(os.environ.get("BENCH_CALLS", "4000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass
class Case:
    """One kind of call, and what was measured of it in each round."""

    name: str
    aim: float | None
    pid: int
    call: Callable[[bytes], Any]
    requests: Iterator[bytes]
    cpu_microseconds: list[float] = field(default_factory=list)
    calls_per_second: list[float] = field(default_factory=list)

    async def run(self, calls: int) -> None:
        """Make `calls` calls, 64 in flight.  Raises AioRpcError if one fails."""

        async def worker(share: int) -> None:
            for _ in range(share):
                await self.call(next(self.requests))

        await asyncio.gather(*(worker(calls // IN_FLIGHT) for _ in range(IN_FLIGHT)))

    async def measure(self) -> None:
        calls = CALLS // IN_FLIGHT * IN_FLIGHT
        cpu, started = cpu_seconds(self.pid), time.perf_counter()
        await self.run(calls)
        self.cpu_microseconds.append((cpu_seconds(self.pid) - cpu) / calls * 1e6)
        self.calls_per_second.append(calls / (time.perf_counter() - started))


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


@contextmanager
def server(*command: str, **env: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process, and the first line that it prints."""
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, env=os.environ | env)
    try:
        yield process, (process.stdout.readline().strip() if process.stdout else "")
    finally:
        process.terminate()
        process.wait(timeout=20)


def unary(channel: grpc.aio.Channel, method: str, token: str = "") -> Callable[[bytes], Any]:
    """A call of one method from bytes to bytes."""
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    multi: Any = channel.unary_unary(method, request_serializer=None, response_deserializer=None)
    return lambda request: multi(request, metadata=metadata)


def same(message: Message) -> Iterator[bytes]:
    return itertools.repeat(message.SerializeToString())


def renames(trader: traders_pb2.Trader, name: str = "renamed") -> Iterator[bytes]:
    """Updates that each change the trader: SQLite writes nothing for one that does not."""
    for number in itertools.count():
        changed = traders_pb2.Trader(user_id=trader.user_id, id=trader.id, name=f"{name} {number}")
        mask = FieldMask(paths=["name"])
        yield traders_pb2.UpdateTraderRequest(trader=changed, update_mask=mask).SerializeToString()


async def make_trader(channel: grpc.aio.Channel, token: str, exchange_id: str = "bench") -> traders_pb2.Trader:
    metadata = (("authorization", f"Bearer {token}"),)
    model = models_pb2.Model(name="Bench", provider="deepseek", enabled=True, api_key="test-key-of-the-benchmark")
    made_model = await models_pb2_grpc.ModelsStub(channel).CreateModel(
        models_pb2.CreateModelRequest(user_id="default", model=model), metadata=metadata
    )
    exchange = exchanges_pb2.Exchange(name="Bench", type="cex", enabled=True, api_key="test-1", secret_key="test-2")  # noqa: S106  # test data
    await exchanges_pb2_grpc.ExchangesStub(channel).CreateExchange(
        exchanges_pb2.CreateExchangeRequest(user_id="default", exchange_id=exchange_id, exchange=exchange),
        metadata=metadata,
    )
    trader = traders_pb2.Trader(name="Bench", ai_model_id=made_model.id, exchange_id=exchange_id, initial_balance=1000)
    return await traders_pb2_grpc.TradersStub(channel).CreateTrader(
        traders_pb2.CreateTraderRequest(user_id="default", trader=trader), metadata=metadata
    )


async def measure() -> list[Case]:
    """Run every case in alternation."""
    with ExitStack() as stack:
        data_dir = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "data"
        echo_socket, socket = f"unix:{data_dir.parent}/echo.sock", f"unix:{data_dir.parent}/bench.sock"
        echo, _ = stack.enter_context(server("-m", "benchmarks.echo_server", echo_socket))
        env = {"NOFX_GRPC_DATA_DIR": str(data_dir), "NOFX_GRPC_LISTEN": socket}
        env["NOFX_GRPC_REVEALS_AT_ONCE"] = "10000000"  # what is measured is how many there can be
        service, _ = stack.enter_context(server("server.py", **env))
        admin = (data_dir / "tokens/admin").read_text()
        engine = (data_dir / "tokens/engine").read_text()
        async with grpc.aio.insecure_channel(echo_socket) as to_echo, grpc.aio.insecure_channel(socket) as to_service:
            trader = await make_trader(to_service, admin)
            key = {"user_id": trader.user_id}
            traders = "/nofx_grpc.v1.Traders/"
            cases = [
                Case("echo", None, echo.pid, unary(to_echo, "/echo.Echo/Echo"), same(trader)),
                Case(
                    "GetTrader", 2.0, service.pid, unary(to_service, traders + "GetTrader", admin),
                    same(traders_pb2.GetTraderRequest(**key, id=trader.id)),
                ),
                Case(
                    "GetTraderConfig", 2.5, service.pid, unary(to_service, traders + "GetTraderConfig", engine),
                    same(traders_pb2.GetTraderConfigRequest(**key, trader_id=trader.id)),
                ),
                Case(
                    "UpdateTrader", 3.0, service.pid, unary(to_service, traders + "UpdateTrader", admin),
                    renames(trader),
                ),
            ]  # fmt: skip
            for case in cases:
                await case.run(IN_FLIGHT * 5)
            for _ in range(ROUNDS):
                for case in cases:
                    await case.measure()
        return cases


def show(cases: list[Case]) -> None:
    """The table: the median round, and the median of each round's ratio to the echo of the same round."""
    table = Table(title=f"{ROUNDS} rounds of {CALLS} calls, {IN_FLIGHT} in flight; medians")
    for heading in ("call", "server CPU per call", "calls per second", "ratio to echo", "aim"):
        table.add_column(heading, justify="left" if heading == "call" else "right")
    echo = cases[0]
    for case in cases:
        ratio = statistics.median(a / b for a, b in zip(case.cpu_microseconds, echo.cpu_microseconds, strict=True))
        table.add_row(
            case.name,
            f"{statistics.median(case.cpu_microseconds):.0f} µs",
            f"{statistics.median(case.calls_per_second):,.0f}",
            f"{ratio:.2f}",
            f"≤ {case.aim}" if case.aim else "",
        )
    Console().print(table)


if __name__ == "__main__":
    show(uvloop.run(measure()))
