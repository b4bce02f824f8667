"""What a client has seen of the store, so that it never reads something older."""

from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock
from typing import Any

# gRPC's own types of it differ between its two clients: pairs of a key and a text, or bytes.
Metadata = Iterable[Any]


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision of the store, and the history that it counts in."""

    history: str
    number: int


class Revisions:
    """The newest revision that answers have shown, in the history that the latest of them counts in.

    After a restore the service has another history, whose numbers may be lower.  A server waits for the revision that
    a read asks for, and so a client with a short deadline would never hear of the new history: after a deadline has
    passed, reads ask for nothing (`in_doubt`) until one is answered.
    """

    def __init__(self) -> None:
        self._lock = Lock()  # the threads of a program share one client
        self._highest: dict[str, int] = {}
        self._latest: Revision | None = None
        self._in_doubt = False

    @property
    def latest(self) -> Revision | None:
        return self._latest

    def wanted(self) -> Revision | None:
        """What the next read is to ask for."""
        return None if self._in_doubt else self._latest

    def doubt(self) -> None:
        """A deadline has passed: perhaps the server waits for a revision of a history that is no more."""
        self._in_doubt = True

    def note(self, trailing: Metadata) -> Revision | None:
        """Remember what the metadata of an answer shows, and return it; None if it shows nothing."""
        shown = _shown(trailing)
        if shown is not None:
            self.add(shown)
        return shown

    def add(self, shown: Revision) -> None:
        """Remember a revision that an answer shows."""
        with self._lock:
            highest = max(shown.number, self._highest.get(shown.history, 0))
            self._highest[shown.history] = highest
            self._latest = Revision(shown.history, highest)
            self._in_doubt = False


def _shown(trailing: Metadata) -> Revision | None:
    history, number = "", ""
    for key, value in trailing:
        if key == "nofx-revision":
            number = str(value)
        elif key == "nofx-history":
            history = str(value)
    return Revision(history, int(number)) if history and number.isdecimal() else None
