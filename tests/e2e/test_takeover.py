"""A server that keeps house is killed, and another one takes over: real processes, in a hurry."""

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.outside import rows
from tests.support.processes import environment, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

# The command as it is, but for how often it sweeps and when a process is taken for dead: a minute and three.
HURRIED = """
from datetime import timedelta
from nofx_grpc import housekeeping
from nofx_grpc.cli.main import main
from nofx_grpc.store import processes

housekeeping.PERIOD_SECONDS = 0.5
processes.LIFETIME = timedelta(seconds=3)
main()
"""
COMMAND = (sys.executable, "-c", HURRIED)
SECONDS = 60.0

EXPIRED = "INSERT INTO spent_login_tokens (id, expires_at) VALUES ('old', '2020-01-01 00:00:00+00:00')"


def until(holds: Callable[[], bool]) -> float:
    """Wait until it is so; how long that took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() < began + SECONDS, "it did not come to be"
        time.sleep(0.05)
    return time.monotonic() - began


def test_when_the_one_that_keeps_house_is_killed_another_does(tmp_path: Path, database_env: dict[str, str]) -> None:
    env = environment(tmp_path / "data") | database_env

    def alive() -> set[str]:
        return {id for (id,) in rows(env, "SELECT id FROM processes")}

    def keepers() -> list[str]:
        return [id for (id,) in rows(env, "SELECT id FROM processes WHERE keeps_house")]

    with serving(env, tmp_path / "log1", COMMAND) as first:
        until(lambda: len(keepers()) == 1)
        killed = keepers()
        with serving(env, tmp_path / "log2", COMMAND):
            until(lambda: len(alive()) == 2)
            assert keepers() == killed
            first.signal(signal.SIGKILL)
            first.wait()
            rows(env, EXPIRED)
            took = until(lambda: rows(env, "SELECT id FROM spent_login_tokens") == [])
            assert len(keepers()) == 1 and not alive() & set(killed)
            print(f"taken over after {took:.1f} s")
