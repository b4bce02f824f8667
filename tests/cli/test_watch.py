"""`nofx-grpc watch` as users run it: a process that shows what another process changes."""

import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import pytest

from nofx_grpc.client import Client
from nofx_grpc.v1 import exchanges_pb2
from tests.support.processes import COMMAND, ServerProcess, environment, run, serving

pytestmark = pytest.mark.e2e

SECONDS = 40.0
SECRET = "watch-plaintext-6e1b"


class Watching:
    """The command while it runs, and what it prints."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self._lines: Queue[str] = Queue()
        self._errors: Queue[str] = Queue()
        for pipe, queue in ((process.stdout, self._lines), (process.stderr, self._errors)):
            Thread(target=self._read, args=(pipe, queue), daemon=True).start()

    def line(self) -> str:
        return self._lines.get(timeout=SECONDS)

    def json(self) -> dict[str, Any]:
        line: dict[str, Any] = json.loads(self.line())
        return line

    def synced(self) -> list[dict[str, Any]]:
        """What comes before the mark, and the mark."""
        lines = [self.json()]
        while lines[-1]["event"] != "synced":
            lines.append(self.json())
        return lines

    def said(self) -> str:
        """The next line on standard error."""
        return self._errors.get(timeout=SECONDS)

    def end(self, how: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(how)
        return self.process.wait(SECONDS)

    @staticmethod
    def _read(pipe: Any, queue: "Queue[str]") -> None:
        for line in pipe:
            queue.put(line.rstrip("\n"))


@contextmanager
def watching(*arguments: str, env: Mapping[str, str]) -> Iterator[Watching]:
    # Whoever runs the tests in the background may have Ctrl-C ignored, which is inherited.
    command = ["env", "--default-signal=INT", COMMAND, "watch", *arguments]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        try:
            yield Watching(process)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that these tests share."""
    directory = tmp_path_factory.mktemp("watch")
    with serving(environment(directory / "data"), directory / "log") as running:
        yield running


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that may be killed."""
    with serving(environment(tmp_path / "data"), tmp_path / "log") as running:
        yield running


def client_env(server: ServerProcess, **more: str) -> dict[str, str]:
    """The environment of a command on the server's machine: its data directory, and where it serves."""
    return {**server.env, "NOFX_GRPC_LISTEN": server.address, **more}


def admin(server: ServerProcess) -> Client:
    return Client(server.address, token=server.token("admin"))


def add_exchange(server: ServerProcess, id: str, name: str = "X") -> None:
    with admin(server) as nofx:
        exchange = exchanges_pb2.Exchange(name=name, type="cex", api_key=SECRET, secret_key=SECRET)
        nofx.exchanges.create_exchange(user_id="default", exchange_id=id, exchange=exchange)


def change_and_delete(server: ServerProcess, id: str) -> None:
    with admin(server) as nofx:
        nofx.exchanges.update_exchange(exchange=exchanges_pb2.Exchange(user_id="default", id=id, name="Y"))
        nofx.exchanges.delete_exchange(user_id="default", id=id)


def test_changes_as_json(server: ServerProcess) -> None:
    with watching("--json", "--kind", "exchange", env=client_env(server)) as watch:
        [mark] = watch.synced()
        assert mark["revision"] > 0 and mark.keys() == {"event", "revision", "history_id"}
        add_exchange(server, "first")
        made = watch.json()
        assert (made["event"], made["operation"], made["kind"]) == ("change", "CREATE", "EXCHANGE")
        assert (made["user_id"], made["id"], made["more"]) == ("default", "first", False)
        assert made["revision"] == mark["revision"] + 1 and made["history_id"] == mark["history_id"]
        assert made["time"].endswith("Z") and made["resource"]["api_key_set"] is True
        assert made["resource"]["testnet"] is False, "a field is there whatever its value is"
        change_and_delete(server, "first")
        changed, deleted = watch.json(), watch.json()
        assert (changed["operation"], changed["resource"]["name"]) == ("UPDATE", "Y")
        assert (deleted["operation"], deleted["resource"]) == ("DELETE", None)
        assert SECRET not in json.dumps([made, changed, deleted])
        assert watch.end() == 130


def test_changes_of_one_revision_say_which_is_the_last(server: ServerProcess) -> None:
    with watching("--json", "--kind", "beta-code", env=client_env(server)) as watch:
        watch.synced()
        with admin(server) as nofx:
            nofx.beta_codes.generate_beta_codes(count=3)
        lines = [watch.json() for _ in range(3)]
        assert [line["more"] for line in lines] == [True, True, False]
        assert len({line["revision"] for line in lines}) == 1


def test_the_state_before_and_the_changes_since(server: ServerProcess) -> None:
    with watching("--json", "--initial", "--kind", "exchange", "--kind", "user", env=client_env(server)) as watch:
        *state, mark = watch.synced()
    assert {(line["event"], line["kind"]) for line in state} == {("state", "EXCHANGE"), ("state", "USER")}
    assert [line["id"] for line in state if line["kind"] == "USER"] == ["default"]
    for id in ("third", "fourth"):
        add_exchange(server, id)
    later = ("--from", str(mark["revision"] + 1))
    for options in (later, (*later, "--history", mark["history_id"])):
        with watching("--json", *options, env=client_env(server)) as watch:
            lines = watch.synced()
            assert [line.get("id") for line in lines] == ["fourth", None]


def test_only_one_user(server: ServerProcess) -> None:
    with watching("--json", "--initial", "--user-id", "default", env=client_env(server)) as watch:
        *state, _ = watch.synced()
    assert {line["user_id"] for line in state} == {"default"} and len(state) > 3


def test_a_table_for_people(server: ServerProcess) -> None:
    with watching("--kind", "exchange", env=client_env(server)) as watch:
        assert watch.line().split() == ["REVISION", "TIME", "UTC", "KIND", "USER", "ID", "VALUES"]
        assert watch.line().startswith("up to date at revision ")
        add_exchange(server, "evil", "\u202eEvil\u2028")
        row = watch.line()
        assert row.split()[2:6] == ["CREATE", "EXCHANGE", "default", "evil"]
        assert r'name: "\u202eEvil\u2028"' in row and SECRET not in row
        assert watch.end() == 130
        assert watch.process.stderr is not None and watch._errors.empty()


def test_a_server_that_is_killed_and_comes_back(mortal: ServerProcess, tmp_path: Path) -> None:
    fixed = dict(mortal.env) | {"NOFX_GRPC_LISTEN": mortal.address}
    with watching("--json", "--kind", "exchange", env=fixed) as watch:
        [mark] = watch.synced()
        mortal.signal(signal.SIGKILL)
        mortal.wait()
        assert watch.said().startswith("nofx-grpc: the stream has broken, trying again: Watch/Watch: UNAVAILABLE: ")
        with serving(fixed, tmp_path / "log") as again:
            add_exchange(again, "first")
            assert watch.said() == "nofx-grpc: watching again"
            while (told := watch.json())["event"] == "synced":
                pass
            assert (told["id"], told["revision"]) == ("first", mark["revision"] + 1)


def test_what_was_missed_for_good_is_a_gap(mortal: ServerProcess, tmp_path: Path) -> None:
    fixed = dict(mortal.env) | {"NOFX_GRPC_LISTEN": mortal.address}
    with watching("--json", "--initial", "--kind", "exchange", env=fixed) as watch:
        watch.synced()
        mortal.signal(signal.SIGKILL)
        mortal.wait()
        with closing(sqlite3.connect(mortal.data_dir / "nofx.db")) as connection, connection:
            connection.execute("UPDATE store_state SET history_id = 'another'")
        with serving(fixed, tmp_path / "log"):
            gap = watch.json()
            assert (gap["event"], gap["reason"]) == ("gap", "HISTORY_CHANGED")
            *state, mark = watch.synced()
            assert len(state) > 1 and mark["history_id"] == "another"


def test_a_pipe_that_nobody_reads_ends_it_quietly(server: ServerProcess) -> None:
    for options in (["--json"], []):
        script = f"{COMMAND} watch --initial {' '.join(options)} | head -1; echo ${{PIPESTATUS[0]}}"
        writing = Thread(target=_keep_changing, args=(server,), daemon=True)
        writing.start()
        done = subprocess.run(
            ["bash", "-c", script], env=client_env(server), capture_output=True, text=True, timeout=SECONDS, check=True
        )
        assert done.stderr == "" and done.stdout.splitlines()[1:] == ["0"]
        writing.join()


def _keep_changing(server: ServerProcess) -> None:
    for number in range(20):
        with admin(server) as nofx:
            nofx.exchanges.update_exchange(
                exchange=exchanges_pb2.Exchange(user_id="default", id="binance", name=str(number))
            )
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--from", "999999"], 1, "nofx-grpc: the store is at revision "),
        (["--from", "1", "--history", "another"], 1, "nofx-grpc: the revisions of the history 'another' mean nothing"),
        (
            ["--kind", "config-entry", "--user-id", "ada"],
            1,
            "nofx-grpc: kinds: a configuration entry belongs to no user",
        ),
        (["--kind", "moon"], 2, "Usage: nofx-grpc watch"),
        (["--initial", "--from", "1"], 2, "Usage: nofx-grpc watch"),
        (["--history", "h"], 2, "Usage: nofx-grpc watch"),
    ],
)
def test_what_cannot_be_watched(server: ServerProcess, options: list[str], code: int, text: str) -> None:
    refused = run("watch", *options, env=client_env(server))
    assert (refused.returncode, refused.stdout) == (code, "") and refused.stderr.startswith(text), refused.stderr


def test_who_may_not_and_nobody_there(server: ServerProcess, tmp_path: Path) -> None:
    wrong = run("watch", "--json", env=client_env(server, NOFX_GRPC_TOKEN="nofx_wrong"))
    assert wrong.returncode == 1 and json.loads(wrong.stdout)["error"]["reason"] == "UNAUTHENTICATED"
    nobody = run("watch", "--json", env=client_env(server, NOFX_GRPC_ADDRESS=f"unix:{tmp_path}/nobody"))
    assert nobody.returncode == 1 and json.loads(nobody.stdout)["error"]["reason"] == "UNAVAILABLE"
    assert nobody.stderr.startswith("nofx-grpc: ") and nobody.stderr.count("\n") == 1
    none = run("watch", env=client_env(server, NOFX_GRPC_DATA_DIR=str(tmp_path / "none")))
    assert none.returncode == 3 and "no credential: set NOFX_GRPC_TOKEN_FILE" in none.stderr
