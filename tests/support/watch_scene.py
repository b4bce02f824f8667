"""Where a run of Watch takes place, and what is known of it."""

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Protocol

from nofx_grpc.services.watch_messages import change_to_proto
from nofx_grpc.store.changes import Change
from nofx_grpc.v1 import watch_pb2 as pb
from tests.support.places import Past
from tests.support.watch_checks import Told, Truth, Watched, complaints
from tests.support.watching import shown_resource

USERS = 4


class Place(Protocol):
    """A server, or several, that may be somewhere else after a misfortune."""

    @property
    def address(self) -> str: ...
    @property
    def past(self) -> Past: ...
    def token(self, role: str) -> str: ...


@dataclass
class Run:
    """The state of a run.  A truth's log is filled before anything is compacted, so that it holds every change."""

    place: Place
    random: random.Random
    truths: dict[str, Truth] = field(default_factory=dict)  # by history
    history: str = ""
    watchers: list[Watched] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)  # ids of tokens that may be revoked
    refused: Counter[str] = field(default_factory=Counter)  # streams that could not be resumed, by reason
    writes: int = 0
    _committed: dict[str, int] = field(default_factory=dict)  # what is known of each history's revision

    @property
    def truth(self) -> Truth:
        """That of the history of now."""
        return self.truths[self.history]

    def begin_history(self, truth: Truth) -> None:
        """The store has a history of its own from now on."""
        ((self.history, self._committed[self.history]),) = self.place.past.rows(
            "SELECT history_id, revision FROM store_state"
        )
        self.truths[self.history] = truth

    def revision(self) -> int:
        return int(self.place.past.rows("SELECT revision FROM store_state")[0][0])

    def committed(self, history: str, revision: int) -> int:
        """The store's revision, read past the service; what was read before, if that is enough."""
        if revision > self._committed.get(history, 0) and history == self.history:
            self._committed[history] = self.revision()
        return self._committed.get(history, 0)

    def read_log(self) -> None:
        """Take over what the log holds and is not known yet."""
        known = max(self.truth.log, default=0)
        sql = "SELECT revision, kind, user_id, id, operation, resource FROM change_log WHERE revision > ?"
        for revision, *change in self.place.past.rows(f"{sql} ORDER BY revision, ordinal", known):
            self.truth.log.setdefault(revision, []).append(told_change(change_to_proto(Change(*change))))
        self._committed[self.history] = self.revision()

    def complaints(self) -> dict[str, list[str]]:
        """What each checker has found wrong, of every history."""
        found: dict[str, list[str]] = {}
        for history, truth in self.truths.items():
            for name, wrong in complaints([watched.of(history) for watched in self.watchers], truth).items():
                found.setdefault(name, []).extend(wrong)
        return found


_ALIKE: dict[Told, Told] = {}


def once(told: Told) -> Told:
    """The same object for what is told again and again."""
    return _ALIKE.setdefault(told, told)


def told_change(change: pb.Change) -> Told:
    content = change.resource.SerializeToString(deterministic=True) if change.HasField("resource") else b""
    return once(Told(change.kind, change.user_id, change.id, change.operation, content))


def told_resource(kind: int, resource: pb.Resource) -> Told:
    """A resource of an initial state; its key is made as those of changes are."""
    shown: Any = shown_resource(resource)
    id = next(getattr(shown, name) for name in ("id", "key", "code", "user_id") if hasattr(shown, name))
    user_id = id if kind == pb.RESOURCE_KIND_USER else getattr(shown, "user_id", "")
    return once(Told(kind, user_id, id, 0, resource.SerializeToString(deterministic=True)))
