"""kill -9 while many append: whole files only, numbers without a gap, and every answer kept."""

import asyncio
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import grpc
import pytest

from nofx_grpc.v1 import decision_logs_pb2 as pb
from nofx_grpc.v1 import exchanges_pb2, models_pb2, traders_pb2
from tests.support.processes import ServerProcess, environment, serving
from tests.support.service import Client

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CALLERS, TRADERS = 24, ("t", "u")
ROUNDS = int(os.environ.get("CRASH_ROUNDS", "2"))  # twenty are a long run
PROMPT = "x" * 20_000


async def make_traders(client: Client) -> None:
    exchange = exchanges_pb2.Exchange(name="X", type="cex")
    await client.exchanges.CreateExchange(
        exchanges_pb2.CreateExchangeRequest(user_id="default", exchange_id="x", exchange=exchange)
    )
    model = models_pb2.Model(name="M", provider="p")
    await client.models.CreateModel(models_pb2.CreateModelRequest(user_id="default", model_id="m", model=model))
    for id in TRADERS:
        trader = traders_pb2.Trader(name="T", ai_model_id="m", exchange_id="x", initial_balance=1)
        await client.traders.CreateTrader(
            traders_pb2.CreateTraderRequest(user_id="default", trader_id=id, trader=trader)
        )


async def append_until_killed(
    server: ServerProcess, name: str, kill_after: int, answers: dict[str, pb.Decision]
) -> None:
    """Append, each record with a request id of its own, and kill the server once so many more were answered."""
    client = Client(server.address, server.token("admin"))
    enough = len(answers) + kill_after

    async def caller(n: int) -> None:
        for step in range(50):
            request_id = f"{name}-{n}-{step}"
            answers[request_id] = await client.decision_logs.AppendDecision(append(request_id))
            if len(answers) >= enough:
                server.signal(signal.SIGKILL)

    ended = await asyncio.gather(*(caller(n) for n in range(CALLERS)), return_exceptions=True)
    assert all(isinstance(error, grpc.aio.AioRpcError) for error in ended), ended
    await client.close()


def append(request_id: str) -> pb.AppendDecisionRequest:
    record = pb.Decision(error_message=request_id, system_prompt=PROMPT)
    trader = TRADERS[hash_of(request_id) % len(TRADERS)]
    return pb.AppendDecisionRequest(user_id="default", trader_id=trader, request_id=request_id, decision=record)


def hash_of(text: str) -> int:
    return sum(text.encode())


def files_of(root: Path, trader: str) -> dict[int, dict[str, object]]:
    """The records on disk by their numbers; every file must be whole."""
    records = [json.loads(path.read_bytes()) for path in (root / trader).glob("*")]
    assert all(record["system_prompt"] == PROMPT for record in records)
    numbers = {record["cycle_number"]: record for record in records}
    assert len(numbers) == len(records)
    return numbers


def check_files(root: Path) -> None:
    """Whole files, numbered without a gap."""
    for trader in TRADERS:
        numbers = files_of(root, trader)
        assert sorted(numbers) == list(range(1, len(numbers) + 1))


async def check_all_have_files(root: Path, answers: Mapping[str, pb.Decision]) -> None:
    """One file for each answer, once those have theirs that waited when the server was killed."""
    paths = {id: root / answer.trader_id / f"{answer.id}.json" for id, answer in answers.items()}
    async with asyncio.timeout(20):
        while not all(path.exists() for path in paths.values()):  # noqa: ASYNC110  # another process makes them
            await asyncio.sleep(0.05)
    assert all(json.loads(path.read_bytes())["error_message"] == id for id, path in paths.items())
    check_files(root)


async def check_records(client: Client, answers: Mapping[str, pb.Decision]) -> None:
    """What the service tells of: whole, numbered without a gap, and every answer as it was given."""
    again = {id: await client.decision_logs.AppendDecision(append(id)) for id in answers}
    assert again == answers
    for trader in TRADERS:
        page = await client.decision_logs.ListDecisions(
            pb.ListDecisionsRequest(trader_id=trader, page_size=1000, view=pb.DECISION_VIEW_FULL)
        )
        assert sorted(one.cycle_number for one in page.decisions) == list(range(1, len(page.decisions) + 1))
        assert {one.system_prompt for one in page.decisions} == {PROMPT} and not page.HasField("unreadable_files")
        there = {one.id: one.error_message for one in page.decisions}
        given = {answer.id: id for id, answer in answers.items() if answer.trader_id == trader}
        assert given.items() <= there.items()


@pytest.mark.parametrize("home", ["files", "database"])
async def test_whole_records_and_no_gap(tmp_path: Path, database_env: dict[str, str], home: str) -> None:
    env = environment(tmp_path / "data", decision_logs=home) | database_env
    answers: dict[str, pb.Decision] = {}
    for number in range(ROUNDS):
        with serving(env, tmp_path / f"{number}.log") as server:
            if not number:
                client = Client(server.address, server.token("admin"))
                await make_traders(client)
                await client.close()
            await append_until_killed(server, str(number), 15 + 7 * number, answers)
            server.wait()
        if home == "files":
            check_files(tmp_path / "data" / "decision_logs")
    with serving(env, tmp_path / "last.log") as server:
        client = Client(server.address, server.token("admin"))
        await check_records(client, answers)
        if home == "files":
            await check_all_have_files(tmp_path / "data" / "decision_logs", answers)
        await client.close()
        server.stop()
