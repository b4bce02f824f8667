"""The command `nofx-grpc` as a process, as users run it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

COMMAND = str(Path(sys.executable).with_name("nofx-grpc"))
_SECONDS = 30.0


def environment(data_dir: Path, **settings: str) -> dict[str, str]:
    """The environment of a process that takes its settings from here only."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("NOFX_", "DATA_ENC"))}
    named = {f"NOFX_GRPC_{name.upper()}": value for name, value in settings.items() if name.islower()}
    others = {name: value for name, value in settings.items() if not name.islower()}
    return inherited | {"NOFX_GRPC_DATA_DIR": str(data_dir), "NOFX_GRPC_LISTEN": "127.0.0.1:0"} | named | others


def run(*arguments: str, env: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end."""
    return subprocess.run([COMMAND, *arguments], env=env, capture_output=True, text=True, timeout=_SECONDS, check=False)


@dataclass
class ServerProcess:
    """A server that has said where it serves."""

    process: "subprocess.Popen[str]"
    env: Mapping[str, str]
    printed: list[str]
    log: Path

    @property
    def address(self) -> str:
        return self.printed[0].removeprefix("nofx-grpc serves on ")

    @property
    def mtls_address(self) -> str:
        return self.printed[3].removeprefix("Callers with certificates: ")

    @property
    def data_dir(self) -> Path:
        return Path(self.env["NOFX_GRPC_DATA_DIR"])

    def token(self, role: str) -> str:
        return (self.data_dir / "tokens" / role).read_text()

    def authorization(self, role: str = "admin") -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token(role)}"),)

    def channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self.address)

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """The exit code."""
        return self.process.wait(_SECONDS)

    def stop(self) -> int:
        """Ask the server to end, and wait; the exit code."""
        self.signal()
        return self.wait()


@contextmanager
def serving(env: Mapping[str, str], log: Path, command: Sequence[str] = (COMMAND,)) -> Iterator[ServerProcess]:
    """A server of this environment, which logs to the file `log`; killed at the end if it still runs."""
    with log.open("a") as file:
        process = subprocess.Popen([*command, "serve"], env=env, stdout=subprocess.PIPE, stderr=file, text=True)
    try:
        lines = 4 if env.get("NOFX_GRPC_MTLS_LISTEN") else 3
        yield ServerProcess(process, env, _printed(process, log, lines), log)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _printed(process: "subprocess.Popen[str]", log: Path, count: int) -> list[str]:
    """The lines that a server prints when it is ready."""
    assert process.stdout is not None
    lines = [process.stdout.readline().rstrip("\n") for _ in range(count)]
    assert lines[0], f"the server did not start: {log.read_text()}"
    return lines
