"""What other callers feel of a storm of logins: `python -m benchmarks.login_storm`.

One caller takes a trader's configuration, one call after the other, alone and beside 32 callers who log in without a
pause, every second one of them with a wrong password; in alternation, round after round.  The storm comes from a
process of its own.  Back-off is out of the way, as if each attempt were somebody else's: so this is the worst that the
limits on hashing let through.  All of it shares the machine.
"""

import asyncio
import itertools
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.quick import make_trader, server, unary
from nofx_grpc.v1 import traders_pb2, users_pb2, users_pb2_grpc

STORMING = 32
CALLS = int(os.environ.get("BENCH_CALLS", "2000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
EMAIL, PASSWORD = "storm@example.com", "a password of the benchmark"
NO_BACKOFF = {
    "NOFX_GRPC_LOGIN_TRIES": "1000",
    "NOFX_GRPC_LOGIN_TRIES_OF_ACCOUNT": "100000",
    "NOFX_GRPC_LOGIN_TRIES_OF_CALLER": "1000000",
    "NOFX_GRPC_LOGIN_WAIT_SECONDS": "1",
}


class Round(NamedTuple):
    """How long the calls took, in seconds."""

    alone: list[float]
    in_storm: list[float]


def storm(address: str, token: str, pipe: Connection) -> None:
    """Log in until something comes through the pipe, then send what came of it.  Runs in a process of its own."""
    pipe.send(uvloop.run(_storm(address, token, pipe)))


async def _storm(address: str, token: str, pipe: Connection) -> Counter[str]:
    metadata, outcomes = (("authorization", f"Bearer {token}"),), Counter[str]()

    async def caller(stub: Any, passwords: Iterator[str]) -> None:
        while not pipe.poll():
            request = users_pb2.AuthenticateRequest(email=EMAIL, password=next(passwords))
            try:
                await stub.Authenticate(request, metadata=metadata)
                outcomes["logged in"] += 1
            except grpc.aio.AioRpcError as error:
                outcomes[error.code().name] += 1

    async with grpc.aio.insecure_channel(address) as channel:
        stub = users_pb2_grpc.UsersStub(channel)
        each = [itertools.cycle([PASSWORD] if number % 2 else ["wrong password"]) for number in range(STORMING)]
        await asyncio.gather(*(caller(stub, passwords) for passwords in each))
    return outcomes


@contextmanager
def storming(address: str, token: str, outcomes: Counter[str]) -> Iterator[None]:
    """A storm for as long as this block takes; adds what came of it to `outcomes`."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=storm, args=(address, token, theirs))
    process.start()
    time.sleep(3)  # to import, and to have 32 attempts under way
    try:
        yield
    finally:
        ours.send(None)
        outcomes.update(ours.recv())
        process.join()


async def prepare(address: str, admin: str) -> traders_pb2.GetTraderConfigRequest:
    """Make a trader, and a user who logs in by a password; how to ask for the trader's configuration."""
    metadata = (("authorization", f"Bearer {admin}"),)
    async with grpc.aio.insecure_channel(address) as channel:
        trader = await make_trader(channel, admin)
        users = users_pb2_grpc.UsersStub(channel)
        create = users_pb2.CreateUserRequest(user=users_pb2.User(email=EMAIL))
        user = await users.CreateUser(create, metadata=metadata)
        await users.SetPassword(users_pb2.SetPasswordRequest(user_id=user.id, password=PASSWORD), metadata=metadata)
    return traders_pb2.GetTraderConfigRequest(user_id=trader.user_id, trader_id=trader.id)


async def calls(address: str, token: str, request: bytes) -> list[float]:
    """How long each of the calls takes, one after the other."""
    took = []
    async with grpc.aio.insecure_channel(address) as channel:
        call = unary(channel, "/nofx_grpc.v1.Traders/GetTraderConfig", token)
        await call(request)
        for _ in range(CALLS):
            began = time.perf_counter()
            await call(request)
            took.append(time.perf_counter() - began)
    return took


def measure() -> tuple[list[Round], Counter[str]]:
    """Every round, and what came of the storming logins."""
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as directory:
        env = {"NOFX_GRPC_DATA_DIR": directory, "NOFX_GRPC_LISTEN": "127.0.0.1:0", **NO_BACKOFF}
        with server("server.py", **env) as (_, line):
            address = line.removeprefix("nofx-grpc serves on ")
            admin, engine, gateway = (
                (Path(directory) / "tokens" / role).read_text() for role in ("admin", "engine", "gateway")
            )
            request = asyncio.run(prepare(address, admin)).SerializeToString()
            rounds = []
            for _ in range(ROUNDS):
                alone = uvloop.run(calls(address, engine, request))
                with storming(address, gateway, outcomes):
                    rounds.append(Round(alone, uvloop.run(calls(address, engine, request))))
    return rounds, outcomes


def show(rounds: list[Round], outcomes: Counter[str]) -> None:
    table = Table(title=f"GetTraderConfig, {ROUNDS} rounds of {CALLS} calls; the median round")
    for heading in ("", "p50", "p99", "longest"):
        table.add_column(heading, justify="right" if heading else "left")
    found = {"alone": [each.alone for each in rounds], f"beside {STORMING} logins": [each.in_storm for each in rounds]}
    for name, times in found.items():
        cells = (statistics.median(of(each) for each in times) * 1000 for of in (p50, p99, max))
        table.add_row(name, *(f"{cell:.2f} ms" for cell in cells))
    ratios = (statistics.median(of(each.in_storm) / of(each.alone) for each in rounds) for of in (p50, p99, max))
    table.add_row("times as long", *(f"{ratio:.1f}" for ratio in ratios))
    Console().print(table)
    print("the storm:", ", ".join(f"{number} {outcome}" for outcome, number in outcomes.most_common()))


def p50(times: list[float]) -> float:
    return statistics.median(times)


def p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


if __name__ == "__main__":
    show(*measure())
