"""The service Watch: every change, in order, from any revision that the log still holds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, aclosing
from dataclasses import dataclass

from nofx_grpc.errors import HistoryChanged, InvalidArgument, PermissionDenied, RevisionInFuture, Violation
from nofx_grpc.services.call import Call
from nofx_grpc.services.feed import Feed
from nofx_grpc.services.subscriptions import Delivery, Reached
from nofx_grpc.services.watch_messages import KIND_OF_VALUE, KINDS, commit_to_proto
from nofx_grpc.services.watch_snapshot import Snapshot
from nofx_grpc.store import changes
from nofx_grpc.store.changes import Change, Commit
from nofx_grpc.store.engine import Database
from nofx_grpc.store.revisions import Kind
from nofx_grpc.v1 import watch_pb2 as pb


@dataclass(frozen=True, slots=True)
class Chosen:
    """The changes of some kinds, of one user or ('') of all."""

    kinds: frozenset[str]
    user_id: str

    def __call__(self, change: Change) -> bool:
        return change.kind in self.kinds and (not self.user_id or change.user_id == self.user_id)


class Watch:
    """Streams changes, after an initial state if one is asked for."""

    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Watch"]

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    async def Watch(self, request: pb.WatchRequest, call: Call) -> AsyncIterator[pb.WatchResponse | bytes]:
        kinds = chosen_kinds(request, call)
        start = request.start_revision if request.HasField("start_revision") else None
        check_start(start, request.history_id, exclusive=request.send_initial_state)
        position = await start_revision(call.db, start, request.history_id)
        chosen, snapshot = Chosen(frozenset(kinds), request.user_id), None
        history_id = call.db.history_id  # that all revisions of this stream belong to
        with ExitStack() as held:
            if request.send_initial_state:
                held.enter_context(self._feed.holding(position))
                snapshot = Snapshot(call.db, kinds, request.user_id)
                async for page in snapshot.pages():
                    yield pb.WatchResponse(history_id=history_id, snapshot=page)
            synced = False
            async with aclosing(self._feed.follow(position, history_id, chosen)) as events:
                async for event in events:
                    async for response in _responses(event, history_id, synced, snapshot):
                        yield response
                    if isinstance(event, Reached) and not synced:
                        synced, snapshot = True, None
                        held.close()


def chosen_kinds(request: pb.WatchRequest, call: Call) -> list[Kind]:
    """The kinds to watch.

    Raises PermissionDenied for one that belongs to no user, from a caller who is limited to one; InvalidArgument for
    such a kind together with a user.
    """
    if not request.kinds:
        return [kind for kind, watched in KINDS.items() if watched.of_user or not request.user_id]
    kinds = [KIND_OF_VALUE[value] for value in request.kinds]
    if of_none := [kind for kind in kinds if request.user_id and not KINDS[kind].of_user]:
        text = f"a {of_none[0]} belongs to no user"
        if call.identity.user_id:
            raise PermissionDenied(f"{text}, and this token is limited to one")
        raise InvalidArgument(Violation("kinds", f"{text}: leave it out, or leave out user_id"))
    return kinds


def check_start(start: int | None, history_id: str, *, exclusive: bool = False) -> None:
    """Raises InvalidArgument unless a revision comes with its history, and, where `exclusive` is set, comes not at
    all.
    """
    if start is not None and exclusive:
        raise InvalidArgument(Violation("start_revision", "is for a client that needs no initial state: leave out one"))
    if start is not None and not history_id:
        raise InvalidArgument(Violation("history_id", "is needed with start_revision: a response has both"))
    if start is None and history_id:
        raise InvalidArgument(Violation("start_revision", "is needed with history_id: a response has both"))


async def start_revision(db: Database, start: int | None, history_id: str) -> int:
    """The revision to begin after: the one that is asked for, else the store's.

    Raises HistoryChanged, RevisionInFuture, RevisionCompacted.
    """
    latest = await db.latest()  # which also notices another history
    if start is None:
        return latest
    if history_id != db.history_id:
        raise HistoryChanged(history_id, db.history_id)
    if start > latest:
        raise RevisionInFuture(start, latest)
    await db.read(changes.check_start, start)
    return start


async def _responses(
    event: Delivery | Reached, history_id: str, synced: bool, snapshot: Snapshot | None
) -> AsyncIterator[pb.WatchResponse | bytes]:
    """What a client is told of an event; while a snapshot is brought up to date, without what it shows already."""
    if isinstance(event, Reached):
        mark = {"bookmark": pb.Bookmark()} if synced else {"synced": pb.Synced()}
        yield pb.WatchResponse(revision=event.revision, history_id=history_id, **mark)
    elif snapshot is not None:
        async for response in _unseen(event.commit, history_id, snapshot):
            yield response
    else:
        if event.encoded is None:
            event.encoded = asyncio.ensure_future(_encoded(event.commit, history_id))
        for encoded in await asyncio.shield(event.encoded):
            yield encoded


async def _encoded(commit: Commit, history_id: str) -> list[bytes]:
    return [response.SerializeToString() async for response in commit_to_proto(commit, history_id)]


async def _unseen(commit: Commit, history_id: str, snapshot: Snapshot) -> AsyncIterator[pb.WatchResponse]:
    """The changes of a commit that the snapshot does not show.  No stream can be resumed from them: see Covered."""
    unseen = tuple(change for change in commit.changes if not snapshot.shows(change, commit.revision))
    async for response in commit_to_proto(commit._replace(changes=unseen), history_id):
        response.revision = 0
        yield response
