"""What `nofx-grpc watch` shows of each response: a line for each object."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message

from nofx_grpc.v1 import watch_pb2 as pb

STATE, CHANGE, SYNCED, GAP = "state", "change", "synced", "gap"


@dataclass(frozen=True, slots=True)
class Line:
    """One object as it is (`state`) or a change of one; or that all is up to date (`synced`); or that what was shown is
    not complete (`gap`), and why.
    """

    event: str
    revision: int = 0
    history_id: str = ""
    time: datetime | None = None
    operation: str = ""
    kind: str = ""
    user_id: str = ""
    id: str = ""
    resource: Message | None = None
    more: bool = False  # more changes of the same revision follow
    reason: str = ""
    message: str = ""


class Lines:
    """The lines of one stream.

    The changes of a revision are held back until they are complete: after a cut in between all of them come again.
    """

    def __init__(self) -> None:
        self._held: list[Line] = []

    def of(self, response: pb.WatchResponse) -> Iterator[Line]:
        """What is to be shown now."""
        history = response.history_id
        if response.HasField("snapshot"):
            for resource in response.snapshot.resources:
                yield _state(response.snapshot.kind, resource, history)
        elif response.HasField("synced"):
            yield Line(SYNCED, response.revision, history)
        elif response.HasField("changes"):
            more = response.changes.more
            last = len(response.changes.changes) - 1
            for number, change in enumerate(response.changes.changes):
                self._held.append(_change(response.changes, change, history, more=more or number < last))
            if not more:
                yield from self._held
                self._held = []


def _state(kind: int, resource: pb.Resource, history: str) -> Line:
    shown: Any = _shown(resource)
    id = next((str(getattr(shown, name)) for name in ("id", "key", "code", "user_id") if hasattr(shown, name)), "")
    user_id = id if kind == pb.RESOURCE_KIND_USER else getattr(shown, "user_id", "")
    return Line(STATE, shown.revision if shown else 0, history, None, "", _kind(kind), user_id, id, shown)


def _change(changes: pb.Changes, change: pb.Change, history: str, *, more: bool) -> Line:
    return Line(
        event=CHANGE,
        revision=changes.revision,
        history_id=history,
        time=changes.time.ToDatetime(tzinfo=UTC),
        operation=_name(pb.Operation, change.operation, "OPERATION_"),
        kind=_kind(change.kind),
        user_id=change.user_id,
        id=change.id,
        resource=_shown(change.resource),
        more=more,
    )


def _shown(resource: pb.Resource) -> Message | None:
    """The message of whatever kind a resource is; None for none, and for one that this release does not know."""
    name = resource.WhichOneof("resource")
    return getattr(resource, name) if name else None


def _kind(value: int) -> str:
    return _name(pb.ResourceKind, value, "RESOURCE_KIND_")


def _name(enum: Any, value: int, prefix: str) -> str:
    """The name of a value; its number if this release does not know it."""
    known = enum.DESCRIPTOR.values_by_number.get(value)
    return str(known.name).removeprefix(prefix) if known else str(value)
