"""No command and no open stream tells a secret, or a key, beside the one whose purpose it is."""

import subprocess
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nofx_grpc.store.backend import backend_for
from nofx_grpc.store.bootstrap import unlock
from nofx_grpc.v1 import decision_logs_pb2, traders_pb2, watch_pb2
from tests.e2e.test_leaks import (
    bootstrap_secrets,
    resources_with_secrets,
    settings_with_secrets,
)
from tests.support.leaks import Secrets
from tests.support.observed import Caller, Observed
from tests.support.processes import COMMAND, ServerProcess, environment, run, serving
from tests.support.rpcs import METHODS, path_of

pytestmark = pytest.mark.e2e


def keys_in_clear(data: Path) -> set[bytes]:
    """Every key of the keyring in the forms that somebody could have written it in."""
    keyring = unlock(backend_for(f"sqlite:///{data}/nofx.db"), (data / "master.key").read_text().strip()).keyring
    raw = {*(key.secret for key in keyring.data.values()), keyring.fingerprint.secret, keyring.audit.secret}
    assert len(raw) >= 4 and all(len(key) == 32 for key in raw)
    return {form for key in raw for form in (key, key.hex().encode(), b64encode(key).rstrip(b"="))}


def everything(*directories: Path) -> dict[str, bytes]:
    """The content of every file below directories, the first secrets aside."""
    files = [path for directory in directories for path in directory.rglob("*") if path.is_file()]
    return {
        str(path): path.read_bytes() for path in files if path.parent.name != "tokens" and path.name != "master.key"
    }


async def decide(caller: Caller) -> None:
    """A trader that has decided something."""
    (trader,) = (await caller("Traders.ListTraders", traders_pb2.ListTradersRequest(user_id="default"))).traders
    request = decision_logs_pb2.AppendDecisionRequest(
        user_id="default", trader_id=trader.id, decision=decision_logs_pb2.Decision(success=True, cot_trace="thought")
    )
    assert await caller("DecisionLogs.AppendDecision", request, "engine")


def commands(tmp_path: Path) -> dict[str, tuple[str, ...]]:
    """What an operator would run, in this order."""
    return {
        "keys list": ("keys", "list"),
        "keys rotate": ("keys", "rotate", "--json"),
        "keys reencrypt": ("keys", "reencrypt"),
        "audit verify": ("audit", "verify"),
        "audit export-head": ("audit", "export-head"),
        "decisions show": ("decisions", "show", "stored", "--json"),
        "decisions report": ("decisions", "report", "stored", "-o", str(tmp_path / "page.html")),
        "decisions export": ("decisions", "export", str(tmp_path / "exported")),
        "backup": ("backup", str(tmp_path / "backup")),
    }


def said_by(env: Mapping[str, str], *arguments: str) -> tuple[int, bytes]:
    ran = run(*arguments, env=env)
    return ran.returncode, (ran.stdout + ran.stderr).encode()


async def watched(server: ServerProcess, stories: Any) -> bytes:
    """All that a viewer's stream of changes says while the stories are told, from the first revision on."""
    async with server.channel() as channel:
        watch: Any = channel.unary_stream(path_of(METHODS["Watch.Watch"]))
        call = watch(
            watch_pb2.WatchRequest(send_initial_state=True).SerializeToString(), metadata=server.authorization("viewer")
        )
        first = await call.read()
        await stories()
        said, quiet = bytes(first), 0
        while quiet < 2:  # a bookmark comes in quiet times
            response = await call.read()
            said += response
            quiet = quiet + 1 if not watch_pb2.WatchResponse.FromString(response).changes.changes else 0
        call.cancel()
    return said


async def test_no_command_and_no_stream_tells_a_secret(tmp_path: Path) -> None:
    data, observed = tmp_path / "data", Observed()
    env = environment(data, log_level="debug", login_floor_ms="0", watch_bookmark_seconds="1")
    with serving(env, tmp_path / "log") as server:
        own = env | {"NOFX_GRPC_ADDRESS": server.address, "NOFX_GRPC_LISTEN": server.address}
        caller = Caller(server, observed)
        with (
            (tmp_path / "watch.out").open("wb") as out,
            subprocess.Popen([COMMAND, "watch", "--initial"], env=own, stdout=out, stderr=out) as watch,  # noqa: ASYNC220  # short
        ):

            async def stories() -> None:
                for story in (resources_with_secrets, settings_with_secrets, decide):
                    await story(caller)

            observed.say("a viewer's stream", await watched(server, stories))
            await caller.close()
            failed = {}
            for name, arguments in commands(tmp_path).items():
                code, said = said_by(own, *arguments)
                observed.say(name, said)
                if code:
                    failed[name] = said
            watch.terminate()
        assert failed == {}
        keys = keys_in_clear(data)
        observed.secrets |= bootstrap_secrets(data)
        # What fails says what is wrong, and not with which key.
        for name, wrong in {"wrong key": "wrong+key/in/clear", "none": ""}.items():
            observed.secrets |= {wrong} - {""}
            code, said = said_by(
                own | {"DATA_ENCRYPTION_KEY": wrong, "NOFX_GRPC_TOKEN": wrong or "x" * 43}, "keys", "list"
            )
            observed.say(f"keys with {name}", said)
            code, said = said_by(own | {"DATA_ENCRYPTION_KEY": wrong or "f" * 64}, "audit", "verify")
            assert code == 3, said
            observed.say(f"audit with {name}", said)
        assert server.stop() == 0
    assert b"stored" in (tmp_path / "watch.out").read_bytes(), "it was told of what was made"
    contents = observed.said | everything(data, tmp_path / "backup", tmp_path / "exported")
    contents |= {name: (tmp_path / name).read_bytes() for name in ("log", "watch.out", "page.html")}
    looked_at, leaks = (len(observed.secrets), len(contents)), Secrets(observed.secrets).found_in_all(contents)[:10]
    keys_found = [where for where, content in contents.items() if any(key in content for key in keys)][:10]
    assert min(looked_at) > 20 and (leaks, keys_found) == ([], [])
