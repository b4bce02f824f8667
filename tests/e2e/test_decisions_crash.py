"""kill -9 while many append: whole files only, numbers without a gap, and every answer kept."""

import asyncio
import json
import signal
from pathlib import Path

import grpc
import pytest

from nofx_grpc.v1 import decision_logs_pb2 as pb
from nofx_grpc.v1 import exchanges_pb2, models_pb2, traders_pb2
from tests.support.processes import ServerProcess, environment, serving
from tests.support.service import Client

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROUNDS, CALLERS, TRADERS = 6, 24, ("t", "u")
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


async def test_whole_files_and_no_gap(tmp_path: Path) -> None:
    env, root = environment(tmp_path / "data"), tmp_path / "data" / "decision_logs"
    answers: dict[str, pb.Decision] = {}
    for number in range(ROUNDS):
        with serving(env, tmp_path / f"{number}.log") as server:
            if not number:
                client = Client(server.address, server.token("admin"))
                await make_traders(client)
                await client.close()
            await append_until_killed(server, str(number), 15 + 7 * number, answers)
            server.wait()
        for trader in TRADERS:
            numbers = files_of(root, trader)
            assert sorted(numbers) == list(range(1, len(numbers) + 1))
        for request_id, answer in answers.items():
            path = root / answer.trader_id / f"{answer.id}.json"
            assert json.loads(path.read_bytes())["error_message"] == request_id
    with serving(env, tmp_path / "last.log") as server:
        client = Client(server.address, server.token("admin"))
        again = {id: await client.decision_logs.AppendDecision(append(id)) for id in answers}
        assert again == answers
        for trader in TRADERS:
            page = await client.decision_logs.ListDecisions(
                pb.ListDecisionsRequest(trader_id=trader, page_size=1000, view=pb.DECISION_VIEW_BASIC)
            )
            numbers = files_of(root, trader)
            assert sorted(d.cycle_number for d in page.decisions) == sorted(numbers) == list(range(1, len(numbers) + 1))
            assert not page.HasField("unreadable_files")
        await client.close()
        server.stop()
