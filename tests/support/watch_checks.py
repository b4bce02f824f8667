"""The promises of Watch, each with a checker: what was told to one watcher, against what the change log says.

A checker returns what is wrong, in words; nothing if the promise was kept.
"""

import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import NamedTuple

from nofx_grpc.v1 import watch_pb2 as pb


class Told(NamedTuple):
    """One change, or one resource of an initial state, as it was told."""

    kind: int
    user_id: str
    id: str
    operation: int  # 0 in an initial state
    content: bytes  # the resource, serialised; empty for a delete

    @property
    def key(self) -> tuple[int, str, str]:
        return self.kind, self.user_id, self.id


class Event(NamedTuple):
    """One response; `committed` is the store's revision when it had arrived, read past the service."""

    what: str  # snapshot, changes, synced, bookmark
    revision: int  # that the stream could be resumed from, or 0
    number: int  # of changes, their revision
    told: tuple[Told, ...]
    more: bool
    committed: int


@dataclass
class Session:
    """One stream: where it began (None: with an initial state) and what it told until it broke."""

    start: int | None
    history: str = ""  # '' if it told nothing
    events: list[Event] = field(default_factory=list)

    @property
    def end(self) -> int:
        """The revision that the stream could be resumed from at last; 0 for none."""
        return max((event.revision for event in self.events), default=0) or self.start or 0


@dataclass
class Watched:
    """One watcher: what it asked for, and its streams, each of which went on where the one before had ended."""

    name: str
    kinds: frozenset[int]
    user_id: str
    sessions: list[Session] = field(default_factory=list)

    def wants(self, told: Told) -> bool:
        return told.kind in self.kinds and (not self.user_id or told.user_id == self.user_id)

    def of(self, history: str) -> "Watched":
        """What it was told of one history."""
        return replace(self, sessions=[session for session in self.sessions if session.history == history])

    def lives(self) -> Iterator[list[Session]]:
        """The sessions in groups: each begins with a state of its own."""
        life: list[Session] = []
        for session in self.sessions:
            if session.start is None and life:
                yield life
                life = []
            life.append(session)
        if life:
            yield life


class Wanted(NamedTuple):
    """What one filter lets through of all changes: the revisions in order, the changes of each, and how many there are
    up to each.
    """

    revisions: list[int]
    changes: list[list[Told]]
    totals: list[int]


@dataclass
class Truth:
    """What the store held before the first change, and all changes by revision, of one history."""

    base: dict[tuple[int, str, str], bytes]
    log: dict[int, list[Told]] = field(default_factory=dict)
    _wanted: dict[tuple[frozenset[int], str, int], Wanted] = field(default_factory=dict)

    def expected(self, watched: Watched, after: int, to: int) -> dict[int, list[Told]]:
        """What a watcher must be told of between two revisions."""
        wanted = self.wanted(watched)
        first, last = bisect_right(wanted.revisions, after), bisect_right(wanted.revisions, to)
        return dict(zip(wanted.revisions[first:last], wanted.changes[first:last], strict=True))

    def count(self, watched: Watched, after: int, to: int) -> int:
        """How many changes that are."""
        wanted = self.wanted(watched)
        first, last = bisect_right(wanted.revisions, after), bisect_right(wanted.revisions, to)
        return wanted.totals[last] - wanted.totals[first]

    def wanted(self, watched: Watched) -> Wanted:
        key = watched.kinds, watched.user_id, len(self.log)
        if key not in self._wanted:
            chosen = {revision: list(filter(watched.wants, self.log[revision])) for revision in sorted(self.log)}
            found = {revision: all_ for revision, all_ in chosen.items() if all_}
            totals = [0, *accumulate(map(len, found.values()))]
            self._wanted[key] = Wanted(list(found), list(found.values()), totals)
        return self._wanted[key]

    def state(self, watched: Watched, revision: int) -> dict[tuple[int, str, str], bytes]:
        """What there was for a watcher at a revision."""
        state = {
            key: content for key, content in self.base.items() if watched.wants(Told(*key, operation=0, content=b""))
        }
        for changes in self.expected(watched, 0, revision).values():
            apply(state, changes)
        return state


def apply(state: dict[tuple[int, str, str], bytes], changes: Iterable[Told]) -> None:
    for told in changes:
        if told.operation == pb.OPERATION_DELETE:
            state.pop(told.key, None)
        else:
            state[told.key] = told.content


def ordered(watched: Watched, truth: Truth) -> list[str]:
    """Revisions only grow."""
    wrong = []
    for session in watched.sessions:
        last, whole = session.start or 0, True
        for event in session.events:
            at = event.number or event.revision
            if at < last or (event.what == "changes" and at == last and whole):
                wrong.append(f"{event.what} of revision {at} after {last}")
            last, whole = max(last, at), not event.more
    return wrong


def unique(watched: Watched, truth: Truth) -> list[str]:
    """No change comes twice, not even after a resume."""
    wrong = []
    for life in watched.lives():
        seen: set[tuple[int, Told]] = set()
        for session in life:
            unfinished = [event for event in session.events if event.number > session.end]
            for event in session.events:
                for told in event.told if event.what == "changes" else ():
                    if (event.number, told) in seen:
                        wrong.append(f"revision {event.number} twice: {told.key}")
                    seen.add((event.number, told))
            # The first part of a revision whose rest was cut off is told again.
            seen -= {(event.number, told) for event in unfinished for told in event.told}
    return wrong


def reliable(watched: Watched, truth: Truth) -> list[str]:
    """All that was committed comes, as it was committed, and nothing else."""
    wrong = []
    for session in watched.sessions:
        got: dict[int, list[Told]] = {}
        for event in _live(session):
            got.setdefault(event.number, []).extend(event.told)
        expected = truth.expected(watched, _begins(session), session.end)
        wrong += [f"revision {r} is missing" for r in expected if r not in got]
        for revision, all_ in got.items():
            logged = truth.log.get(revision, [])
            wrong += [f"revision {revision} never had {told.key}" for told in all_ if told not in logged]
    return wrong


def atomic(watched: Watched, truth: Truth) -> list[str]:
    """All changes of a revision come together: in one response, or in several of which all but the last say so."""
    wrong = []
    for session in watched.sessions:
        expected = truth.expected(watched, 0, session.end)
        parts: list[Told] = []
        for event in _live(session):
            parts += event.told
            if event.more:
                continue
            if event.number <= session.end and parts != expected.get(event.number, parts):
                wrong.append(f"revision {event.number} came in part: {len(parts)} of {len(expected[event.number])}")
            parts = []
    return wrong


def resumable(watched: Watched, truth: Truth) -> list[str]:
    """Who goes on from the last revision holds what was never interrupted would hold."""
    wrong = []
    for life in watched.lives():
        state: dict[tuple[int, str, str], bytes] = truth.state(watched, life[0].start) if life[0].start else {}
        end = 0
        for session in life:
            if session.start is not None and end and session.start != end:
                wrong.append(f"resumed from {session.start}, but {end} was the last revision")
            end = session.end
            if (first := next(iter(truth.expected(watched, session.start or end, end)), 0)) and session.start:
                told = next((event.number for event in session.events if event.what == "changes"), None)
                if told != first:
                    wrong.append(f"resumed from {session.start} it began with {told} instead of {first}")
            for event in session.events:
                if event.number <= end:
                    apply(state, event.told)
        if end and state != truth.state(watched, end):
            differing = {key for key, _ in state.items() ^ truth.state(watched, end).items()}
            wrong.append(f"at revision {end} its state differs in {sorted(differing)}")
    return wrong


def bookmarkable(watched: Watched, truth: Truth) -> list[str]:
    """A revision of a response means that all up to it was told, and nothing beyond it."""
    wrong = []
    for session in watched.sessions:
        begins, told = _begins(session), 0
        for event in session.events:
            if event.what == "changes" and event.number > begins:
                told += len(event.told)
            if event.revision > begins:
                expected = truth.count(watched, begins, event.revision)
                if told != expected:
                    wrong.append(f"at revision {event.revision} {told} changes were told instead of {expected}")
    return wrong


def committed(watched: Watched, truth: Truth) -> list[str]:
    """Nothing is told before it is committed."""
    events = [event for session in watched.sessions for event in session.events]
    return [
        f"revision {at} was told when the store was at {event.committed}"
        for event in events
        if (at := max(event.number, event.revision)) > event.committed
    ]


def _synced(session: Session) -> Event | None:
    return next((event for event in session.events if event.what == "synced"), None)


def _begins(session: Session) -> int:
    """The revision after which every change must be told."""
    if session.start is not None:
        return session.start
    synced = _synced(session)
    return sys.maxsize if synced is None else synced.revision


def _live(session: Session) -> list[Event]:
    """The changes after those that only complete an initial state."""
    begins = _begins(session)
    return [event for event in session.events if event.what == "changes" and event.number > begins]


CHECKERS: dict[str, Callable[[Watched, Truth], list[str]]] = {
    checker.__name__: checker for checker in (ordered, unique, reliable, atomic, resumable, bookmarkable, committed)
}


def complaints(all_: Iterable[Watched], truth: Truth) -> dict[str, list[str]]:
    """What each checker has found wrong; empty if every promise was kept to everybody."""
    found: dict[str, list[str]] = {}
    for watched in all_:
        for name, checker in CHECKERS.items():
            found.setdefault(name, []).extend(f"{watched.name}: {wrong}" for wrong in checker(watched, truth))
    return {name: wrong for name, wrong in found.items() if wrong}
