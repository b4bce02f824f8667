"""A large store copied to PostgreSQL and back, backed up and restored: time, memory, and that all of it is the same.

python -m benchmarks.moving [number of traders]
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.adoption import build
from nofx_grpc.v1 import traders_pb2 as pb
from tests.store.support import empty_postgresql
from tests.support import nofx_db
from tests.support.processes import COMMAND, environment, serving
from tests.support.service import Client


def run(*arguments: str, env: dict[str, str]) -> dict[str, object]:
    """The command's report; its time and memory are printed."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([COMMAND, *arguments, "--json"], env=env, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        printed = output.read()
    expect(process.returncode == 0, printed)
    seconds, memory = time.perf_counter() - started, usage.ru_maxrss / 1024
    print(f"{arguments[0]:>8}: {seconds:5.1f} s, at most {memory:.0f} MiB", flush=True)
    report: dict[str, object] = json.loads(printed)
    return report


def expect(holds: bool, what: str) -> None:
    if not holds:
        sys.exit(f"not so: {what}")


async def secrets_of(env: dict[str, str], token: str, log: Path) -> bytes:
    """All configurations as engines get them, secrets in clear."""
    with serving(env, log) as server:
        client = Client(server.address, token)
        found = []
        async for response in client.traders.StreamTraderConfigs(pb.StreamTraderConfigsRequest()):
            for config in response.configs:
                config.ClearField("revision")
                found.append(config.SerializeToString(deterministic=True))
        await client.close()
        server.stop()
    return b"".join(sorted(found))


def main(traders: int) -> None:
    with tempfile.TemporaryDirectory() as directory, empty_postgresql() as postgresql:
        place = Path(directory)
        build(place / "config.db", traders)
        env = environment(place / "data", DATA_ENCRYPTION_KEY=nofx_db.KEY)
        run("adopt", str(place / "config.db"), env=env)
        one, three = (f"sqlite:///{place}/{name}" for name in ("data/nofx.db", "back.db"))
        there, back = run("copy-db", one, postgresql, env=env), run("copy-db", postgresql, three, env=env)
        expect(there["tables"] == back["tables"], "the tables are the same on both engines")
        run("backup", str(place / "backup"), env=env)
        restored = environment(place / "restored", DATA_ENCRYPTION_KEY=nofx_db.KEY)
        run("restore", str(place / "backup"), env=restored)
        token = (place / "data/tokens/engine").read_text()
        stores = [env, env | {"NOFX_GRPC_DATABASE_URL": three}, restored]
        seen = [asyncio.run(secrets_of(store, token, place / "log")) for store in stores]
        expect(seen[0] == seen[1] == seen[2], "engines get the same from each store")
        rows = sum(table["rows"] for table in back["tables"].values())  # type: ignore[attr-defined]  # a report
        print(f"{rows:,} rows and {len(seen[0]) / 2**20:.0f} MiB of configurations with secrets are the same")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
