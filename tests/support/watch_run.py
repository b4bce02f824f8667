"""A run of writers, watchers and misfortunes against a server, from one seed; what the watchers were told is kept."""

import asyncio
import os
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import grpc

from nofx_grpc.services.watch_messages import KINDS, change_to_proto
from nofx_grpc.store.changes import Change
from nofx_grpc.v1 import (
    admin_pb2,
    beta_codes_pb2,
    common_pb2,
    exchanges_pb2,
    models_pb2,
    signal_sources_pb2,
    system_config_pb2,
    users_pb2,
)
from nofx_grpc.v1 import watch_pb2 as pb
from tests.support.service import Client, refusal_of
from tests.support.watch_checks import Event, Session, Told, Truth, Watched
from tests.support.watching import read, shown_resource

USERS = 4


class Place(Protocol):
    """A server that may be somewhere else after a misfortune."""

    @property
    def address(self) -> str: ...
    def token(self, role: str) -> str: ...
    @property
    def database(self) -> Path: ...


@dataclass
class Run:
    """The state of a run.  `log` is filled before anything is compacted, so that it holds every change."""

    place: Place
    random: random.Random
    truth: Truth = field(default_factory=lambda: Truth({}))
    watchers: list[Watched] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)  # ids of tokens that may be revoked
    refused: Counter[str] = field(default_factory=Counter)  # streams that could not be resumed, by reason
    writes: int = 0

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """What the database holds, past the service."""
        with closing(sqlite3.connect(self.place.database, timeout=10)) as connection:
            return connection.execute(sql, parameters).fetchall()

    def execute(self, *statements: tuple[str, *tuple[object, ...]]) -> None:
        """Change the database past the service, in one transaction."""
        with closing(sqlite3.connect(self.place.database, timeout=10)) as connection, connection:
            for sql, *parameters in statements:
                connection.execute(sql, parameters)

    def revision(self) -> int:
        return int(self.rows("SELECT revision FROM store_state")[0][0])

    def read_log(self) -> None:
        """Take over what the log holds and is not known yet."""
        known = max(self.truth.log, default=0)
        sql = "SELECT revision, kind, user_id, id, operation, resource FROM change_log WHERE revision > ?"
        for revision, *change in self.rows(f"{sql} ORDER BY revision, ordinal", known):
            self.truth.log.setdefault(revision, []).append(told_change(change_to_proto(Change(*change))))


def told_change(change: pb.Change) -> Told:
    content = change.resource.SerializeToString(deterministic=True) if change.HasField("resource") else b""
    return Told(change.kind, change.user_id, change.id, change.operation, content)


def told_resource(kind: int, resource: pb.Resource) -> Told:
    """A resource of an initial state; its key is made as those of changes are."""
    shown: Any = shown_resource(resource)
    id = next(getattr(shown, name) for name in ("id", "key", "code", "user_id") if hasattr(shown, name))
    user_id = id if kind == pb.RESOURCE_KIND_USER else getattr(shown, "user_id", "")
    return Told(kind, user_id, id, 0, resource.SerializeToString(deterministic=True))


# ---- writers


async def write(run: Run, until: Callable[[], bool]) -> None:
    """Change something at random, again and again.  What is refused is no matter."""
    client = Client(run.place.address, run.place.token("admin"))
    try:
        while not until():
            try:
                await asyncio.wait_for(run.random.choice(STEPS)(run, client), 5)
                run.writes += 1
            except (grpc.aio.AioRpcError, TimeoutError) as error:
                if not isinstance(error, grpc.aio.AioRpcError) or error.code() == grpc.StatusCode.UNAVAILABLE:
                    await client.close()
                    await asyncio.sleep(0.05)
                    client = Client(run.place.address, run.place.token("admin"))
    finally:
        await client.close()


def _user(run: Run) -> str:
    return run.random.choice(run.users)


async def _create_exchange(run: Run, client: Client) -> None:
    exchange = exchanges_pb2.Exchange(name="X", type="cex", api_key="k")
    id = f"x{run.random.randrange(6)}"
    request = exchanges_pb2.CreateExchangeRequest(user_id=_user(run), exchange_id=id, exchange=exchange)
    await client.exchanges.CreateExchange(request)


async def _update_exchange(run: Run, client: Client) -> None:
    exchange = exchanges_pb2.Exchange(
        user_id=_user(run), id=f"x{run.random.randrange(6)}", name=f"n{run.random.randrange(10**6)}"
    )
    await client.exchanges.UpdateExchange(exchanges_pb2.UpdateExchangeRequest(exchange=exchange))


async def _delete_exchange(run: Run, client: Client) -> None:
    request = exchanges_pb2.DeleteExchangeRequest(user_id=_user(run), id=f"x{run.random.randrange(6)}")
    await client.exchanges.DeleteExchange(request)


async def _create_model(run: Run, client: Client) -> None:
    model = models_pb2.Model(name="M", provider="qwen")
    await client.models.CreateModel(models_pb2.CreateModelRequest(user_id=_user(run), model=model))


async def _set_source(run: Run, client: Client) -> None:
    source = signal_sources_pb2.SignalSource(
        user_id=_user(run), coin_pool_url=f"http://example.com/{run.random.randrange(10**6)}"
    )
    await client.signal_sources.SetSignalSource(signal_sources_pb2.SetSignalSourceRequest(signal_source=source))


async def _set_config(run: Run, client: Client) -> None:
    """Two changes of one revision."""
    settings = [
        system_config_pb2.ConfigSetting(key=key, value=str(run.random.randrange(1, 90)))
        for key in ("max_daily_loss", "max_drawdown")
    ]
    await client.system_config.SetSystemConfig(system_config_pb2.SetSystemConfigRequest(settings=settings))


async def _make_codes(run: Run, client: Client) -> None:
    """Several changes of one revision."""
    await client.beta_codes.GenerateBetaCodes(beta_codes_pb2.GenerateBetaCodesRequest(count=run.random.randrange(1, 6)))


async def _replace_user(run: Run, client: Client) -> None:
    """A user goes with all that is theirs, and another one comes."""
    old = _user(run)
    await client.users.DeleteUser(users_pb2.DeleteUserRequest(id=old, force=True))
    run.users[run.users.index(old)] = await new_user(run, client)


async def new_user(run: Run, client: Client) -> str:
    email = f"{run.random.randrange(10**12)}@example.com"
    return (await client.users.CreateUser(users_pb2.CreateUserRequest(user=users_pb2.User(email=email)))).id


STEPS: list[Callable[[Run, Client], Awaitable[None]]] = [
    *[_create_exchange, _update_exchange, _delete_exchange] * 4,
    *[_create_model, _set_source, _set_config, _make_codes] * 2,
    _replace_user,
]


# ---- watchers


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
        while (last := until()) is None or self._end < last:
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
            request.send_initial_state, self._end = True, 0
        else:
            request.start_revision, request.history_id = self._end, self._history
        client = Client(self._run.place.address, await self._credential())
        leave_after = self._random.choice([3, 100, 300, 3000])
        try:
            call = client.watch.Watch(request)
            while (response := await asyncio.wait_for(call.read(), 20)) is not grpc.aio.EOF:
                assert isinstance(response, pb.WatchResponse)
                session.events.append(self._event(response))
                self._end, self._history = response.revision or self._end, response.history_id
                leave_after -= 1
                last = until()
                if not leave_after or (last is not None and self._end >= last):
                    call.cancel()
                    return
                if self._slow:
                    await asyncio.sleep(self._random.random() * 0.01)
        finally:
            await client.close()

    def _event(self, response: pb.WatchResponse) -> Event:
        what = str(response.WhichOneof("event"))
        told = [told_change(change) for change in response.changes.changes]
        told += [told_resource(response.snapshot.kind, resource) for resource in response.snapshot.resources]
        number = response.changes.revision
        return Event(what, response.revision, number, tuple(told), response.changes.more, self._run.revision())

    async def _mend(self, error: grpc.aio.AioRpcError) -> None:
        """What a client does about an error.  Raises it if it should not have come."""
        if error.code() == grpc.StatusCode.UNAVAILABLE:  # perhaps not said by the service at all
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


def seconds(number: float) -> Callable[[], bool]:
    """Whether this much time has passed since now."""
    ends = time.monotonic() + number
    return lambda: time.monotonic() > ends


async def begin(run: Run) -> None:
    """Users to own what is written, and the state before the first change."""
    client = Client(run.place.address, run.place.token("admin"))
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
    until: Callable[[], bool],
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
