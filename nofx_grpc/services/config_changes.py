"""Which configurations the change log says have changed."""

from dataclasses import dataclass
from typing import NamedTuple

from nofx_grpc.services.covered import Seen
from nofx_grpc.store import changes, trader_configs
from nofx_grpc.store.changes import Change
from nofx_grpc.store.engine import Connection
from nofx_grpc.store.revisions import Kind, Operation
from nofx_grpc.store.trader_configs import Key

PAGE = 500
MOST_RESOURCES = 1000


@dataclass(frozen=True, slots=True)
class Relevant:
    """The changes that are part of some configuration of a user, or ('') of anybody's."""

    user_id: str

    def __call__(self, change: Change) -> bool:
        if trader_configs.concerns_all(change):
            return True
        return change.kind in trader_configs.PARTS and (not self.user_id or change.user_id == self.user_id)


class Look(NamedTuple):
    """What was found in the change log up to a revision.

    `keys` are configurations to be read anew, `deleted` traders that are gone; `everything` tells that all
    configurations have changed; `complete` that the revision is the store's.
    """

    keys: list[Key]
    deleted: list[Key]
    everything: bool
    revision: int
    complete: bool

    @property
    def settled(self) -> int:
        """The revision, if the log says that nothing is left to be sent at it; else 0."""
        return self.revision if self.complete and not (self.keys or self.deleted or self.everything) else 0


def look(connection: Connection, position: int, relevant: Relevant, seen: Seen) -> Look:
    """What has changed after a revision and was not seen since.  Raises RevisionCompacted."""
    last: dict[tuple[str, str, str], tuple[int, Change]] = {}  # of each resource its last change
    complete = False
    while not complete and len(last) < MOST_RESOURCES:
        page = changes.after(connection, position, PAGE)
        for commit in page.commits:
            last.update((change[:3], (commit.revision, change)) for change in commit.changes if relevant(change))
        position, complete = page.revision, page.complete
    keys: dict[Key, None] = {}
    deleted: list[Key] = []
    for revision, change in last.values():
        if change.kind == Kind.TRADER and change.operation == Operation.DELETE:
            deleted += [key for key in trader_configs.concerned(connection, change) if seen.at(key) < revision]
        else:
            concerned = trader_configs.concerned(connection, change)
            keys.update((key, None) for key in concerned if seen.at(key) < revision)
    everything = any(trader_configs.concerns_all(change) for _, change in last.values())
    return Look(list(keys), deleted, everything, position, complete)
