"""Headless Chromium, spoken to in its DevTools protocol over a pipe."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from select import select
from typing import Any

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PATIENCE = 60.0


def program() -> str:
    """The browser of this machine."""
    found = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    assert found, "this test opens a page in Chromium: apt-get install chromium-headless-shell (or chromium)"
    return found


class Browser:
    """A browser, and what its one page has said."""

    def __init__(self, to_it: int, from_it: int) -> None:
        self._to_it, self._from_it = to_it, from_it
        self._received = b""
        self._last_id = 0
        self._session: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []

    def open(self, url: str) -> None:
        """Load a page, and wait until all of it is there."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not self.told("Page.loadEventFired"):
            self._take(self._receive())

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def told(self, *methods: str) -> list[dict[str, Any]]:
        """The events of these names."""
        return [event["params"] for event in self.events if event["method"] in methods]

    def complaints(self) -> list[str]:
        """What is in the console: messages, errors, and what the page's policy has refused."""
        said = self.told("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        return [json.dumps(event) for event in said]

    def requests(self) -> list[str]:
        """The URLs that were asked for, what they hold left out."""
        return [event["request"]["url"][:40] for event in self.told("Network.requestWillBeSent")]

    def call(self, method: str, **params: Any) -> Any:
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": params} | self._session
        os.write(self._to_it, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._last_id:
                assert "error" not in answer, answer
                return answer["result"]
            self._take(answer)

    def _take(self, event: dict[str, Any]) -> None:
        if "method" in event:
            self.events.append(event)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            ready, _, _ = select([self._from_it], [], [], PATIENCE)
            assert ready, "the browser says nothing"
            part = os.read(self._from_it, 1 << 20)
            assert part, "the browser has ended"
            self._received += part
        message, _, self._received = self._received.partition(b"\0")
        return dict(json.loads(message))


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with a profile of its own, until the block ends."""
    arguments = [
        program(),
        "--headless",
        "--no-sandbox",  # tests run as root, too; they open what they made themselves
        "--disable-gpu",
        "--no-first-run",
        f"--user-data-dir={profile}",
        "--remote-debugging-pipe",
    ]
    its_in, to_it = os.pipe()
    from_it, its_out = os.pipe()
    quiet = os.open(os.devnull, os.O_RDWR)
    # The browser reads from file descriptor 3 and writes to 4.
    places = [(os.POSIX_SPAWN_DUP2, here, there) for here, there in ((quiet, 1), (quiet, 2), (its_in, 3), (its_out, 4))]
    pid = os.posix_spawn(arguments[0], arguments, os.environ, file_actions=places)
    for used_up in (its_in, its_out, quiet):
        os.close(used_up)
    try:
        yield Browser(to_it, from_it)
    finally:
        os.close(to_it)  # which ends it
        os.close(from_it)
        os.waitpid(pid, 0)
