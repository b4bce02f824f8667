"""Two processes that write to one store: both get on, neither waits long, no revision is given twice."""

import json
import subprocess
import sys
import time

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

url, name, start, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])

async def main():
    database = Database(backend_for(url), FakeClock(), Chain(ChainKey(Key("test", b"k" * 32)), os.urandom))
    database.open()
    answers, longest = [], 0.0

    async def caller(number):
        nonlocal longest
        count = 0
        while time.time() < start + seconds:
            began = time.monotonic()
            count += 1
            answers.append((await database.write(users.resource.create, user(f"{name}-{number}-{count}"))).revision)
            longest = max(longest, time.monotonic() - began)

    await asyncio.sleep(start - time.time())
    await asyncio.gather(*map(caller, range(8)))
    await database.close()
    print(json.dumps({"revisions": answers, "longest": longest}))

asyncio.run(main())
"""


def test_two_processes_share_the_store_fairly(store: Store) -> None:
    start = str(time.time() + 2)  # when both are surely up
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE_FOR_A_WHILE, store.url, name, start, str(SECONDS)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        for name in ("one", "two")
    ]
    one, two = (json.loads(process.communicate(timeout=60)[0]) for process in processes)
    print(f"writes: {len(one['revisions'])} and {len(two['revisions'])},")
    print(f"longest waits: {one['longest'] * 1000:.1f} and {two['longest'] * 1000:.1f} ms")
    assert min(len(one["revisions"]), len(two["revisions"])) > 10, "both get on"
    assert max(one["longest"], two["longest"]) < SECONDS / 2, "nobody starves"
    together = sorted(one["revisions"] + two["revisions"])
    assert together == list(range(2, len(together) + 2))
    with store.outside() as connection:
        assert revisions.read_state(connection).revision == together[-1]
