"""The example engine as a process, on the adopted sample, while models change and the server is killed under it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import pytest

from nofx_grpc.client import Client
from nofx_grpc.v1 import models_pb2
from tests.support.processes import ServerProcess, environment, run, serving

pytestmark = pytest.mark.e2e

EXAMPLE = Path(__file__).parents[2] / "examples" / "engine.py"
SAMPLE = Path(__file__).parents[1] / "data/nofx-sample"
EXPECTED: dict[str, Any] = json.loads((SAMPLE / "expected.json").read_text())
ROWS = EXPECTED["databases"]["config.db"]["rows"]
SWING = next(row for row in ROWS["traders"] if row["name"] == "BTC Swing")
SECONDS = 60.0


class Engine:
    """The engine while it runs, and what it says."""

    def __init__(self, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(EXAMPLE)], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.said: list[str] = []
        self._lines: Queue[str] = Queue()
        self._reading = Thread(target=self._read)
        self._reading.start()

    def says(self, text: str) -> None:
        """Wait until it says this, after its clock."""
        while not self.said or self.said[-1].partition(" ")[2] != text:
            line = self._lines.get(timeout=SECONDS)
            assert line, f"it has ended, after: {self.said}"
            self.said.append(line)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put("")

    def stop(self) -> str:
        """Stop it as an operator does; what is on its standard error."""
        self.process.send_signal(signal.SIGTERM)
        self.says("stopped")
        assert self.process.wait(SECONDS) == 0
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def kill(self) -> None:
        self.process.kill()
        self._reading.join()
        self.process.communicate()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of the adopted sample, on a port that another one can take after it."""
    nofx = shutil.copytree(SAMPLE, tmp_path / "nofx")
    env = environment(tmp_path / "data", DATA_ENCRYPTION_KEY=EXPECTED["key"]["env_value"])
    assert run("adopt", str(nofx / "config.db"), env=env).returncode == 0
    with serving(env, tmp_path / "log") as running:
        yield running


def engine_env(server: ServerProcess, role: str = "engine") -> dict[str, str]:
    token_file = str(server.data_dir / "tokens" / role)
    return environment(server.data_dir, address=server.address, token_file=token_file)


def change_model(server: ServerProcess, name: str) -> None:
    with Client(server.address, token=server.token("admin")) as nofx:
        model = models_pb2.Model(user_id=SWING["user_id"], id=SWING["ai_model_id"], custom_model_name=name)
        nofx.models.update_model(model=model)


def test_the_engine_takes_up_what_changes_also_after_the_server_was_killed(
    server: ServerProcess, tmp_path: Path
) -> None:
    engine = Engine(engine_env(server))
    try:
        exchange = next(
            row["name"] for row in ROWS["exchanges"] if row["id"] == "binance" and row["user_id"] == SWING["user_id"]
        )
        engine.says(f"BTC Swing asks DeepSeek and trades on {exchange}")
        change_model(server, "deeper")
        engine.says(f"BTC Swing asks deeper and trades on {exchange}")
        server.signal(signal.SIGKILL)
        server.wait()
        with serving(dict(server.env) | {"NOFX_GRPC_LISTEN": server.address}, tmp_path / "log") as again:
            change_model(again, "deepest")
            engine.says(f"BTC Swing asks deepest and trades on {exchange}")
            errors = engine.stop()
        assert "configurations are not followed at the moment, trying again: " in errors
        assert errors.count("\n") == 1, "an engine is told once, not at every attempt"
        check_no_secret("\n".join(engine.said) + errors)
    finally:
        engine.kill()


def check_no_secret(said: str) -> None:
    for table, columns in (("ai_models", ["api_key"]), ("exchanges", ["api_key", "secret_key", "aster_private_key"])):
        for row in ROWS[table]:
            assert [column for column in columns if row[column] and row[column] in said] == []


def test_an_engine_that_may_not_says_so(server: ServerProcess) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        env=engine_env(server, "viewer"),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 1 and done.stdout == "" and os.fspath(EXAMPLE) not in done.stderr
    assert "engine: Traders/WatchTraderConfigs: PERMISSION_DENIED: " in done.stderr
