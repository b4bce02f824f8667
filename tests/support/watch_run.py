"""A run of writers, watchers and misfortunes against a server, from one seed; what the watchers were told is kept."""

import asyncio
import os
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import grpc

from nofx_grpc.services.watch_messages import KINDS
from nofx_grpc.v1 import (
    admin_pb2,
    common_pb2,
)
from nofx_grpc.v1 import watch_pb2 as pb
from tests.support.service import Client, refusal_of
from tests.support.watch_checks import Event, Session, Truth, Watched
from tests.support.watch_scene import USERS, Run, told_change, told_resource
from tests.support.watch_writers import (
    new_user,
    write,
)
from tests.support.watching import read

# What gRPC itself says, without the service, where a connection is cut or its server killed.
LOST = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


class Watcher:
    """Watches with a filter of its own until it holds a revision, through whatever happens meanwhile."""

    def __init__(self, run: Run, number: int) -> None:
        self._run, self._random = run, random.Random(run.random.random())  # noqa: S311 - a seed can be repeated
        all_kinds = [watched.value for watched in KINDS.values()]
        of_user = [watched.value for watched in KINDS.values() if watched.of_user]
        self._user_id = run.random.choice(["", "", run.users[0], run.users[1]])
        usable = of_user if self._user_id else all_kinds
        self._asked = run.random.choice([[], run.random.sample(usable, run.random.randrange(1, len(usable)))])
        self._limited = bool(self._user_id) and run.random.random() < 0.5
        self._token = ""
        self.watched = Watched(f"watcher {number}", frozenset(self._asked or usable), self._user_id)
        self._end, self._history, self._slow = 0, "", run.random.random() < 0.2
        self.ended = False

    async def watch(self, until: Callable[[], int | None]) -> None:
        """Until the revision is told, and held."""
        while not self._holds(until()):
            try:
                await self._session(until)
            except grpc.aio.AioRpcError as error:
                await self._mend(error)
        self.ended = True

    async def _session(self, until: Callable[[], int | None]) -> None:
        initial = not self._end or self._random.random() < 0.1
        session = Session(None if initial else self._end)
        self.watched.sessions.append(session)
        request = pb.WatchRequest(kinds=self._asked, user_id=self._user_id)
        if initial:
            request.send_initial_state = True
        else:
            request.start_revision, request.history_id = self._end, self._history
        client = Client(self._run.place.address, await self._credential())
        leave_after = self._random.choice([3, 100, 300, 3000])
        try:
            call = client.watch.Watch(request)
            while (response := await asyncio.wait_for(call.read(), 20)) is not grpc.aio.EOF:
                assert isinstance(response, pb.WatchResponse)
                session.history = response.history_id
                session.events.append(self._event(response))
                if initial and len(session.events) == 1:
                    self._end = 0  # what was held before is forgotten
                self._end, self._history = response.revision or self._end, response.history_id
                leave_after -= 1
                if not leave_after or self._holds(until()):
                    call.cancel()
                    return
                if self._slow:
                    await asyncio.sleep(self._random.random() * 0.01)
        finally:
            await client.close()

    def _holds(self, last: int | None) -> bool:
        """Whether it has been told all up to the last revision, of the history of now."""
        return last is not None and self._history == self._run.history and self._end >= last

    def _event(self, response: pb.WatchResponse) -> Event:
        what = str(response.WhichOneof("event"))
        told = [told_change(change) for change in response.changes.changes]
        told += [told_resource(response.snapshot.kind, resource) for resource in response.snapshot.resources]
        number = response.changes.revision
        committed = self._run.committed(response.history_id, max(number, response.revision))
        return Event(what, response.revision, number, tuple(told), response.changes.more, committed)

    async def _mend(self, error: grpc.aio.AioRpcError) -> None:
        """What a client does about an error.  Raises it if it should not have come."""
        if error.code() in LOST:
            await asyncio.sleep(0.05)
            return
        refusal = refusal_of(error)
        if refusal.reason in {"REVISION_COMPACTED", "HISTORY_CHANGED", "REVISION_IN_FUTURE"}:
            self._end = 0
            self._run.refused[refusal.reason] += 1
        elif refusal.reason == "SLOW_READER":
            assert refusal.metadata["resume_revision"] == str(self._end)
        elif error.code() == grpc.StatusCode.UNAUTHENTICATED and self._limited:
            self._token = ""
        else:
            raise error

    async def _credential(self) -> str:
        """A token that is limited to the user, where that was chosen; made anew when it was revoked."""
        if not self._limited:
            return self._run.place.token("viewer")
        if not self._token:
            admin = Client(self._run.place.address, self._run.place.token("admin"))
            token = admin_pb2.Token(display_name="w", role=common_pb2.ROLE_VIEWER, user_id=self._user_id)
            try:
                made = await admin.admin.CreateToken(admin_pb2.CreateTokenRequest(token=token))
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.NOT_FOUND:
                    raise
                self._limited = False  # the user is gone: what it left is watched with a token for all
                return self._run.place.token("viewer")
            finally:
                await admin.close()
            self._token = made.secret
            self._run.tokens.append(made.id)
        return self._token


def new_seed() -> int:
    """The seed of this run: WATCH_SEED, to repeat one, else any; printed, so that a failure shows it."""
    seed = int(os.environ.get("WATCH_SEED", "0")) or random.SystemRandom().randrange(2**32)
    print(f"WATCH_SEED={seed}")
    return seed


async def begin(run: Run) -> None:
    """Users to own what is written, and the state before the first change."""
    client = Client(run.place.address, run.place.token("admin"))
    run.begin_history(Truth({}))
    try:
        call = client.watch.Watch(pb.WatchRequest(send_initial_state=True))
        while not (response := await read(call)).HasField("synced"):
            for resource in response.snapshot.resources:
                told = told_resource(response.snapshot.kind, resource)
                run.truth.base[told.key] = told.content
        call.cancel()
        run.users = [await new_user(run, client) for _ in range(USERS)]
    finally:
        await client.close()


async def revoke(run: Run) -> None:
    """Revoke a token that a watcher uses."""
    if not run.tokens:
        return
    client = Client(run.place.address, run.place.token("admin"))
    with suppress(grpc.aio.AioRpcError):
        await client.admin.RevokeToken(admin_pb2.RevokeTokenRequest(id=run.tokens.pop()))
    await client.close()


async def perform(
    run: Run,
    *,
    writers: int,
    watchers: int,
    until: Callable[[], object],
    chaos: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    """All of it: write and watch, with misfortunes, then let everybody hold the last revision."""
    await begin(run)
    last: list[int] = []

    def held() -> int | None:
        return last[0] if last else None

    all_ = [Watcher(run, number) for number in range(watchers)]
    run.watchers = [watcher.watched for watcher in all_]
    watching = [asyncio.create_task(watcher.watch(held)) for watcher in all_]
    writing = [asyncio.create_task(write(run, until)) for _ in range(writers)]
    troubling = asyncio.create_task(chaos())
    await asyncio.gather(*writing)
    await troubling
    last.append(run.revision())
    run.read_log()
    await asyncio.wait_for(asyncio.gather(*watching), 100)
