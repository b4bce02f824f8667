"""One caller who appends decision records, beside plain files that are made as durable, in turn.

    python -m benchmarks.appends [rounds] [records in each] [URL of an empty PostgreSQL database]

In each round the same process writes plain files, durable with their names (write, fsync, rename, fsync of the
directory), then files with write and fsync alone, then appends as many records of the same size through a server, one
after the other; at last it appends as many for 32 traders at one time.  What is told is of all rounds: medians, and how
many appends there were for each plain file.  Where many files were deleted just before, ext4 takes long to make new
ones: BENCH_DIR says where to work.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
    traders_pb2,
    traders_pb2_grpc,
)

ROOT = Path(__file__).parents[1]
PROMPT = "what the market did, at some length; " * 60
START_SECONDS, WARM_UP, CALLERS = 60, 50, 32


def main(rounds: int, records: int, database_url: str) -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as directory:
        data_dir, socket = Path(directory, "data"), f"unix:{directory}/socket"
        env = os.environ | {"NOFX_GRPC_DATA_DIR": str(data_dir), "NOFX_GRPC_LISTEN": socket}
        if database_url:
            env |= {"NOFX_GRPC_DATABASE_URL": database_url}
        server = subprocess.Popen(
            [sys.executable, "server.py"], cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            with grpc.insecure_channel(socket) as channel:
                grpc.channel_ready_future(channel).result(START_SECONDS)
                measure(channel, data_dir, rounds, records, lambda: cpu_seconds(server.pid))
        finally:
            server.terminate()
            server.wait()


def measure(channel: grpc.Channel, data_dir: Path, rounds: int, records: int, cpu: Callable[[], float]) -> None:
    token = (data_dir / "tokens" / "admin").read_text()
    metadata = (("authorization", f"Bearer {token}"),)
    make_traders(channel, metadata, ["t", *(f"t{number}" for number in range(CALLERS))])
    append = decision_logs_pb2_grpc.DecisionLogsStub(channel).AppendDecision
    decision = pb.Decision(success=True, input_prompt=PROMPT)
    plain = Plain(data_dir.parent / "plain", append_bytes(append, metadata, decision))

    def append_one(number: int, trader_id: str = "t") -> None:
        append(
            pb.AppendDecisionRequest(
                user_id="default", trader_id=trader_id, request_id=f"{trader_id}-{number}", decision=decision
            ),
            metadata=metadata,
        )

    def append_some(trader_number: int) -> None:
        for number in range(rounds * records // CALLERS):
            append_one(number, f"t{trader_number}")

    kinds = {"file with its name": plain.named, "write and fsync": plain.synced, "append": append_one}
    took: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(WARM_UP):
        append_one(-number)
    used = cpu()
    for start in range(0, rounds * records, records):
        for name, work in kinds.items():
            took[name] += [timed(work, number) for number in range(start, start + records)]
    used = (cpu() - used) / (rounds * records)
    appends = took["append"]
    started = time.perf_counter()
    with ThreadPoolExecutor(CALLERS) as callers:
        list(callers.map(append_some, range(CALLERS)))
    together = rounds * records // CALLERS * CALLERS / (time.perf_counter() - started)
    for name, times in took.items():
        ratio = (
            f"{sum(times) / sum(appends):.2f}, of medians {statistics.median(times) / statistics.median(appends):.2f}"
        )
        print(f"{name}: median {statistics.median(times):.2f} ms, mean {statistics.mean(times):.2f} ms; rate {ratio}")
    print(f"CPU of the server for each append: {used * 1000:.2f} ms")
    plain_rate = 1000 / statistics.mean(took["write and fsync"])
    print(f"{CALLERS} traders: {together:.0f} a second, {together / plain_rate:.2f} of one file after the other")


def timed(work: Callable[[int], None], number: int) -> float:
    started = time.perf_counter()
    work(number)
    return (time.perf_counter() - started) * 1000


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def append_bytes(append: Any, metadata: Any, decision: pb.Decision) -> int:
    """How large the files of the records are."""
    request = pb.AppendDecisionRequest(user_id="default", trader_id="t", decision=decision)
    return int(append(request, metadata=metadata).size_bytes)


class Plain:
    """Plain files in a directory of their own."""

    def __init__(self, directory: Path, size: int) -> None:
        directory.mkdir()
        self._directory, self._data = directory, b"x" * size

    def synced(self, number: int) -> None:
        self._write(self._directory / f"synced-{number}")

    def named(self, number: int) -> None:
        path = self._directory / f"{number}.json"
        self._write(path.with_suffix(".new"))
        path.with_suffix(".new").rename(path)
        descriptor = os.open(self._directory, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    def _write(self, path: Path) -> None:
        with path.open("wb") as file:
            file.write(self._data)
            file.flush()
            os.fsync(file.fileno())


def make_traders(channel: grpc.Channel, metadata: Any, ids: list[str]) -> None:
    exchanges_pb2_grpc.ExchangesStub(channel).CreateExchange(
        exchanges_pb2.CreateExchangeRequest(
            user_id="default", exchange_id="x", exchange=exchanges_pb2.Exchange(name="X", type="cex")
        ),
        metadata=metadata,
    )
    models_pb2_grpc.ModelsStub(channel).CreateModel(
        models_pb2.CreateModelRequest(user_id="default", model_id="m", model=models_pb2.Model(name="M", provider="p")),
        metadata=metadata,
    )
    trader = traders_pb2.Trader(name="T", ai_model_id="m", exchange_id="x", initial_balance=1)
    for id in ids:
        traders_pb2_grpc.TradersStub(channel).CreateTrader(
            traders_pb2.CreateTraderRequest(user_id="default", trader_id=id, trader=trader), metadata=metadata
        )


if __name__ == "__main__":
    arguments = [*sys.argv[1:], *["10", "100", ""][len(sys.argv) - 1 :]]
    main(int(arguments[0]), int(arguments[1]), arguments[2])
