"""Nothing that is stored, or that somebody answers, steers the terminal of whoever looks at it."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from nofx_grpc.cli import adopt, audit, keys, main, moving, progress, reports
from nofx_grpc.errors import NotFound
from nofx_grpc.settings import Settings
from nofx_grpc.store.adoption.report import ClearFile, Report, Severity
from nofx_grpc.store.audit_verify import Kind
from nofx_grpc.store.audit_verify import Report as Verified
from tests.attack.texts import LOG, TERMINAL
from tests.support.processes import environment, run

HOSTILE = (*TERMINAL, *LOG, "[/red]", "[@click=app.bell]x[/]")
COLORS = re.compile(r"\x1b\[[0-9;]*m")


def show_keys(text: str) -> None:
    uses = [{"table": text, "column": text, "values": 1}]
    key = {"id": text, "purpose": text, "state": text, "create_time": text, "values": 1, "uses": uses}
    keys.show([key])
    keys.show_rotated({"key": text, "previous": text})
    keys.show_retired({"retired": text})


def show_reencrypted(text: str) -> None:
    place = dict.fromkeys(("table", "column", "user_id", "row_id", "key_id"), text)
    keys.show_reencrypted({"resealed": 1, "key": text, "unreadable": [place] * 20})


def show_adopted(text: str) -> None:
    report = Report(text, text, text, backup=text)
    report.table(text).read = 1
    report.secret(text, text).clear = 1
    report.add(Severity.WARNING, "control_characters", text, [text, text], text)
    report.files_with_clear_secrets.append(ClearFile(text, text))
    adopt.show(report, Settings.load(None, {}))


def show_verified(text: str) -> None:
    report = Verified([])
    report.add(Kind.CHANGED, text, 1, 2, text)
    audit.show(report)


def show_copied(text: str) -> None:
    moving.show_copied({"source": text, "target": text, "revision": 1, "left_out": [text]})


def show_progress(text: str) -> None:
    with progress.bar() as tell:
        tell(text, 1, 2)


def show_errors(text: str) -> None:
    reports.report_error(NotFound("trader", text), as_json=False)
    reports.report_error(reports.CommandFailed("X", text), as_json=True)


def show_mistake(text: str) -> None:
    """An exception that nobody has thought of, with what was stored in its text."""

    def mistaken(_: list[str]) -> None:
        raise RuntimeError(text)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(main, "_run", mistaken)
        assert main.main([]) == reports.EXIT_INTERNAL


SHOWN: list[Callable[[str], None]] = [
    show_keys, show_reencrypted, show_adopted, show_verified, show_copied, show_progress, show_errors, show_mistake,
]  # fmt: skip


@pytest.fixture(autouse=True)
def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed is printed as to a terminal, wide enough for all of it."""
    for name, value in {"FORCE_COLOR": "1", "COLUMNS": "4000", "TERM": "xterm-256color"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("show", SHOWN)
def test_what_is_stored_is_shown_as_text(
    show: Callable[[str], None], text: str, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    show(text)
    said = capsys.readouterr()
    printed = COLORS.sub("", "".join(said)).replace("\n", "").replace("\r\x1b[2K", "")
    if show is show_progress:  # its own: the cursor off and on, and back to the beginning of the line
        printed = re.sub(r"\x1b\[\?25[lh]", "", printed).replace("\r", "")
    assert printed.isprintable(), ascii(printed)
    if text.startswith("["):
        assert text in printed, "it is no markup either"


# ---- whoever answers at the address


class Answering(grpc.GenericRpcHandler):
    """Refuses every call in the same words."""

    def __init__(self, text: str) -> None:
        self.text = text

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            lambda _, context: context.abort(grpc.StatusCode.UNAVAILABLE, self.text)
        )


@pytest.fixture
def stranger() -> Iterator[str]:
    """The address of a server that answers with what could steer a terminal."""
    server = grpc.server(ThreadPoolExecutor(2), [Answering("\x1b[2J\x1b]0;owned\x07\u202e")])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


@pytest.mark.parametrize("command", [("health",), ("keys", "list"), ("decisions", "show", "t")])
def test_what_a_server_answers_is_shown_as_text(stranger: str, command: tuple[str, ...], tmp_path: Any) -> None:
    address = ("--address", stranger) if command == ("health",) else ()
    env = environment(tmp_path, address=stranger, token="x", retry_seconds="1")
    ran = run(*command, *address, env=env)
    assert ran.returncode != 0 and "owned" in ran.stderr
    assert ran.stderr.replace("\n", "").isprintable(), json.dumps(ran.stderr)
