"""A million beta codes imported into a server of its own: time, codes per second, and the server's memory.

    python -m benchmarks.beta_import [number of codes]

The file is sent twice: first all codes are new, then all are duplicates.  Memory is the server process's peak (VmHWM).
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from nofx_grpc.services.beta_codes import new_code
from nofx_grpc.v1 import beta_codes_pb2, beta_codes_pb2_grpc

ROOT = Path(__file__).parents[1]
CHUNK_BYTES = 256 * 1024
START_SECONDS = 30


def main(count: int) -> None:
    file = "".join(f"{new_code(8)}\n" for _ in range(count)).encode()
    with tempfile.TemporaryDirectory() as directory:
        data_dir, socket = Path(directory, "data"), f"unix:{directory}/socket"
        env = os.environ | {"NOFX_GRPC_DATA_DIR": str(data_dir), "NOFX_GRPC_LISTEN": socket}
        server = subprocess.Popen([sys.executable, "server.py"], cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
        try:
            asyncio.run(measure(server.pid, socket, data_dir / "tokens" / "admin", file))
        finally:
            server.terminate()
            server.wait()


async def measure(pid: int, socket: str, token: Path, file: bytes) -> None:
    async with grpc.aio.insecure_channel(socket) as channel:
        await asyncio.wait_for(channel.channel_ready(), START_SECONDS)
        stub = beta_codes_pb2_grpc.BetaCodesStub(channel)
        metadata = (("authorization", f"Bearer {await asyncio.to_thread(token.read_text)}"),)
        print(f"before: {memory(pid)}")
        for name in ("new", "duplicates"):
            started = time.perf_counter()
            answer = await stub.ImportBetaCodes(chunks(file), metadata=metadata)
            seconds = time.perf_counter() - started
            total = answer.imported_count + answer.duplicate_count
            print(
                f"{name}: {answer.imported_count:,} imported, {answer.duplicate_count:,} duplicates, {seconds:.1f} s,"
            )
            print(f"  {total / seconds:,.0f} codes/s, {memory(pid)}")
        started = time.perf_counter()
        await stub.GetBetaCodeStats(beta_codes_pb2.GetBetaCodeStatsRequest(), metadata=metadata)
        print(f"GetBetaCodeStats: {(time.perf_counter() - started) * 1000:.0f} ms")


async def chunks(file: bytes) -> AsyncIterator[beta_codes_pb2.ImportBetaCodesRequest]:
    for start in range(0, len(file), CHUNK_BYTES):
        yield beta_codes_pb2.ImportBetaCodesRequest(data=file[start : start + CHUNK_BYTES])


def memory(pid: int) -> str:
    """The server's memory now, and the most that it has had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    now, peak = (next(int(line.split()[1]) // 1024 for line in lines if line.startswith(k)) for k in ("VmRSS", "VmHWM"))
    return f"{now} MiB, at most {peak} MiB"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
