"""`nofx-grpc watch`: shows changes as they are made, over restarts of the server and cut connections."""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nofx_grpc.cli.remote import connected
from nofx_grpc.cli.reports import say
from nofx_grpc.cli.watch_lines import GAP, Line, Lines
from nofx_grpc.cli.watch_output import Output
from nofx_grpc.client import Client, NofxClientError, Revision
from nofx_grpc.client.following import Following, lost
from nofx_grpc.v1 import watch_pb2 as pb


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be shown."""

    kinds: Sequence[str] = ()
    user_id: str = ""
    initial: bool = False
    start: int | None = None
    history: str = ""

    def fields(self) -> dict[str, Any]:
        """The fields of a request that stay the same."""
        names = [f"RESOURCE_KIND_{name.upper().replace('-', '_')}" for name in self.kinds]
        return {"kinds": [pb.ResourceKind.Value(name) for name in names], "user_id": self.user_id}


def run(wanted: Wanted, output: Output) -> None:
    """Show changes without end.  Raises CommandFailed, and KeyboardInterrupt; returns when nobody reads any more."""
    try:
        with connected("viewer") as nofx:
            _Watch(nofx, wanted, output).run()
    except BrokenPipeError:
        # What is left in the buffer must not fail again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Watch:
    def __init__(self, nofx: Client, wanted: Wanted, output: Output) -> None:
        self._following: Following
        self._nofx, self._following = nofx.following()
        self._wanted, self._output = wanted, output
        self._begun = False

    def run(self) -> None:
        if self._wanted.start is not None:
            history = self._wanted.history or self._history_of_now()
            self._following.position = Revision(history, self._wanted.start)
        while True:
            error = lost("Watch/Watch", "the stream has ended")
            try:
                self._show()
            except NofxClientError as caught:
                error = caught
            if not self._begun:  # an address or an option that is wrong is said at once
                raise error
            self._mend(error)

    def _show(self) -> None:
        start = self._following.opening() or {"send_initial_state": self._wanted.initial}
        lines = Lines()
        with self._nofx.watch.watch(**self._wanted.fields(), **start) as stream:
            for response in stream:
                if self._following.trouble is not None:
                    say("watching again")
                self._begun = True
                self._following.heard(response)
                for line in lines.of(response):
                    self._output.show(line)

    def _mend(self, error: NofxClientError) -> None:
        """Wait until the stream is to be opened again.  Raises the error if that would not help."""
        first, pause = self._following.trouble is None, self._following.pause_after(error)
        if first:
            say(f"the stream has broken, trying again: {error}")
        if self._following.position is None:
            self._output.show(Line(GAP, reason=error.reason or error.code.name, message=error.message))
        time.sleep(pause)

    def _history_of_now(self) -> str:
        with self._nofx.watch.watch(**self._wanted.fields()) as stream:
            return next(stream).history_id
