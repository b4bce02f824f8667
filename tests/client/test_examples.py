"""The examples run as they are written."""

import asyncio
import subprocess
import sys
from pathlib import Path

from nofx_grpc.client import AsyncClient
from nofx_grpc.v1 import exchanges_pb2, models_pb2, traders_pb2
from tests.support.processes import environment
from tests.support.service import RunningService

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
SECRETS = {"key": "sk-example-1", "exchange": "ex-example-1"}


async def run(example: Path, service: RunningService, role: str) -> "subprocess.CompletedProcess[str]":
    env = environment(service.data_dir, address=service.address, token_file=str(service.data_dir / "tokens" / role))
    command = [sys.executable, str(example)]
    return await asyncio.to_thread(subprocess.run, command, env=env, capture_output=True, text=True, timeout=30)


async def add_traders(service: RunningService) -> None:
    await service.add_users("ada")
    async with AsyncClient(service.address, token=service.token("admin")) as nofx:
        model = await nofx.models.create_model(
            user_id="ada",
            model=models_pb2.Model(name="DeepSeek", provider="deepseek", enabled=True, api_key=SECRETS["key"]),
        )
        exchange = exchanges_pb2.Exchange(
            name="Binance", type="cex", enabled=True, api_key=SECRETS["exchange"], secret_key=SECRETS["exchange"]
        )
        await nofx.exchanges.create_exchange(user_id="ada", exchange_id="binance", exchange=exchange)
        for name in ("First", "Second"):
            trader = traders_pb2.Trader(name=name, ai_model_id=model.id, exchange_id="binance", initial_balance=1000.0)
            await nofx.traders.create_trader(user_id="ada", trader_id=name, trader=trader)


async def test_ten_lines(service: RunningService) -> None:
    await add_traders(service)
    done = await run(EXAMPLES / "ten_lines.py", service, "engine")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == [
        "First: DeepSeek on Binance: ready",
        "Second: DeepSeek on Binance: ready",
    ]
    assert [secret for secret in SECRETS.values() if secret in done.stdout] == []


async def test_ten_lines_says_what_is_wrong(service: RunningService) -> None:
    done = await run(EXAMPLES / "ten_lines.py", service, "viewer")
    await add_traders(service)
    refused = await run(EXAMPLES / "ten_lines.py", service, "viewer")
    assert (done.returncode, done.stdout) == (0, "")
    assert "PermissionDenied: Traders/GetTraderConfig: PERMISSION_DENIED" in refused.stderr and refused.returncode == 1


def test_ten_lines_are_ten_at_most() -> None:
    lines = (EXAMPLES / "ten_lines.py").read_text().splitlines()
    assert len([line for line in lines if line and not line.startswith('"""')]) <= 10


async def test_the_readmes_client(service: RunningService, tmp_path: Path) -> None:
    blocks = (EXAMPLES.parent / "README.md").read_text().split("```python\n")[1:]
    example = tmp_path / "readme.py"
    example.write_text(blocks[0].split("```")[0].replace("t-1", "First"))
    assert (await run(example, service, "engine")).stderr == "no trader with id 'First'\n"
    await add_traders(service)
    assert (await run(example, service, "engine")).stdout == "First True Binance\n"
