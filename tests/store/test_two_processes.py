"""Two processes that write to one store: both get on, neither starves, no revision is given twice."""

import json
import subprocess
import sys

from nofx_grpc.store import revisions
from tests.store.support import ROOT, Store

SECONDS = 2.0

WRITE_FOR_A_WHILE = """
import asyncio, json, os, sys, time
from nofx_grpc.crypto.chain import ChainKey
from nofx_grpc.crypto.keyring import Key
from nofx_grpc.store import users
from nofx_grpc.store.audit_chain import Chain
from nofx_grpc.store.backend import backend_for
from nofx_grpc.store.engine import Database
from tests.store.support import user
from tests.support.clock import FakeClock

url, name, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])

async def main():
    database = Database(backend_for(url), FakeClock(), Chain(ChainKey(Key("test", b"k" * 32)), os.urandom))
    database.open()
    answers = []

    async def caller(number):
        count = 0
        while time.monotonic() < end:
            count += 1
            answers.append((await database.write(users.resource.create, user(f"{name}-{number}-{count}"))).revision)

    print("ready", flush=True)
    sys.stdin.readline()
    end = time.monotonic() + seconds
    await asyncio.gather(*map(caller, range(8)))
    await database.close()
    print(json.dumps(answers))

asyncio.run(main())
"""


def test_two_processes_share_the_store_fairly(store: Store) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE_FOR_A_WHILE, store.url, name, str(SECONDS)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    one, two = (json.loads(process.communicate(timeout=60)[0]) for process in processes)
    together = sorted(one + two)
    assert together == list(range(2, len(together) + 2))
    with store.outside() as connection:
        assert revisions.read_state(connection).revision == together[-1]
    print(f"writes: {len(one)} and {len(two)}")
    assert min(len(one), len(two)) > len(together) / 10, "neither starves"
