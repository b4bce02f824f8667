"""`make audit-deps` never says that all is well where it could not look: pip-audit itself ends with 0 then."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tools.audit_deps import FINE, NOT_AUDITED, VULNERABLE, verdict

BAD = {
    "id": "PYSEC-0000-1",
    "summary": "made up",
    "modified": "2026-01-01T00:00:00Z",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "wheel", "purl": "pkg:pypi/wheel"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9.9"}]}],
            "versions": ["0.45.0"],
        }
    ],
}


@contextmanager
def service(answer: dict[str, Any]) -> Iterator[str]:
    """A vulnerability service on this machine, which answers every query alike."""

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()
        thread.join()


def audited(tmp_path: Path, url: str) -> "subprocess.CompletedProcess[str]":
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"wheel==0.45.0 --hash=sha256:{'0' * 64}\n")
    command = [sys.executable, "-m", "tools.audit_deps", str(lock), "-s", "osv", "--osv-url", url]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "HTTP_PROXY": "", "NO_PROXY": "*"}
    command += ["--cache-dir", str(tmp_path / "cache"), "--timeout", "5"]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_nothing_known_is_fine(tmp_path: Path) -> None:
    with service({}) as url:
        ran = audited(tmp_path, url)
    assert (ran.returncode, ran.stdout) == (FINE, "1 pins: 0 vulnerabilities, 0 pins not audited\n"), ran.stderr


def test_what_is_known_is_named(tmp_path: Path) -> None:
    with service({"vulns": [BAD]}) as url:
        ran = audited(tmp_path, url)
    assert ran.returncode == VULNERABLE, ran.stderr
    assert "wheel 0.45.0: PYSEC-0000-1, mended in 9.9" in ran.stdout


def test_a_service_that_cannot_be_reached_is_no_all_clear(tmp_path: Path) -> None:
    with service({}) as url:
        pass
    ran = audited(tmp_path, url)
    assert ran.returncode == NOT_AUDITED
    assert "was not audited, because the data cannot be had: " in ran.stderr and "Connection refused" in ran.stderr
    assert "ARGS='-s osv'" in ran.stderr and len(ran.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    ("dependencies", "code"),
    [
        ([], NOT_AUDITED),
        ([{"name": "a", "skip_reason": "Dependency not found"}], NOT_AUDITED),
        (
            [{"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "Dependency not found"}],
            NOT_AUDITED,
        ),
        ([{"name": "a", "version": "1", "vulns": []}], FINE),
        ([{"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions": []}]}], VULNERABLE),
    ],
)
def test_a_pin_that_was_not_looked_up_is_no_all_clear(dependencies: list[dict[str, Any]], code: int) -> None:
    assert verdict(dependencies)[0] == code


def test_where_none_was_looked_up_it_is_said_once() -> None:
    pins = [{"name": f"pin-{number}", "skip_reason": "Dependency not found"} for number in range(40)]
    assert verdict(pins) == (NOT_AUDITED, ["40 pins: 0 vulnerabilities, 40 pins not audited"])
    code, lines = verdict([*pins, {"name": "a", "version": "1", "vulns": []}])
    assert code == NOT_AUDITED and lines[0] == "pin-0: not audited: Dependency not found" and len(lines) == 41
