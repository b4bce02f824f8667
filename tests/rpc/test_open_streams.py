"""Whose the open streams are is asked for all together, and who cannot be asked for reads on for a while only."""

import asyncio
from collections.abc import Collection
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from nofx_grpc.errors import StoreUnavailable, Unauthenticated
from nofx_grpc.rpc import streams
from nofx_grpc.rpc.callers import Callers
from nofx_grpc.rpc.credentials import Credential
from nofx_grpc.rpc.identity import Tokens
from nofx_grpc.rpc.streams import OpenStreams
from nofx_grpc.services.call import Identity
from nofx_grpc.store import tokens
from nofx_grpc.v1 import common_pb2
from tests.support.clock import FakeClock
from tests.support.service import RunningService

READ = common_pb2.PERMISSION_READ
VIEWER = Identity("token:x", "viewer", frozenset({READ}))


class Asked:
    """Callers of whom some, or all, cannot be told."""

    def __init__(self) -> None:
        self.down: Exception | None = None
        self.hangs = False
        self.gone: set[str | bytes | None] = set()
        self.refreshed: list[int] = []

    async def refresh(self, shown: Collection[Credential]) -> None:
        self.refreshed.append(len(shown))
        if self.hangs:
            await asyncio.sleep(3600)
        if self.down is not None:
            raise self.down

    async def identify(self, shown: Credential, *, as_known: bool) -> Identity:
        assert as_known, "it is asked one by one"
        if shown.authorization == "odd":
            raise ZeroDivisionError
        if shown.authorization == "forgotten":
            raise StoreUnavailable("the token has to be looked up")
        if shown.authorization in self.gone:
            raise Unauthenticated("the token has expired")
        return VIEWER


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def open_streams(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> OpenStreams:
    monkeypatch.setattr(streams, "UNCHECKED_SECONDS", 3600)
    monkeypatch.setattr(streams, "_ASK_SECONDS", 0.02)
    callers: Any = asked
    return OpenStreams(callers, period=0.02)


async def read_on(open_streams: OpenStreams, authorization: str) -> None:
    call: Any = type("Call", (), {"identity": VIEWER})()
    with open_streams.opened(call, Credential(authorization, local=True), READ):
        await asyncio.sleep(3600)


async def begin(open_streams: OpenStreams, *names: str) -> "list[asyncio.Task[None]]":
    tasks = [asyncio.create_task(read_on(open_streams, name)) for name in names]
    await asyncio.sleep(0)
    assert len(open_streams) == len(tasks)
    return tasks


async def error_of(task: "asyncio.Task[None]") -> BaseException | None:
    await asyncio.wait([task], timeout=30)
    return task.exception()


async def test_all_are_asked_for_at_once(open_streams: OpenStreams, asked: Asked) -> None:
    names = [f"token {number}" for number in range(500)]
    tasks = await begin(open_streams, *names, "token 0")
    asked.gone = set(names[:499])
    asked.refreshed.clear()
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait([*tasks[:499], tasks[500]], timeout=30)
    assert len(asked.refreshed) <= 2  # the one round may have been under way
    assert all(isinstance(task.exception(), Unauthenticated) for task in [*tasks[:499], tasks[500]])
    assert not tasks[499].done()
    tasks[499].cancel()


@pytest.mark.parametrize("how", ["down", "hangs"])
async def test_who_cannot_be_asked_for_reads_on_for_a_while(
    open_streams: OpenStreams, asked: Asked, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task,) = await begin(open_streams, "token")
    with capture_logs() as logs:
        asked.down, asked.hangs = StoreUnavailable("gone"), how == "hangs"
        await _until_asked(asked, 3)
        assert not task.done()
        asked.down, asked.hangs = None, False
        await _until_asked(asked, 3)
        monkeypatch.setattr(streams, "UNCHECKED_SECONDS", 0)
        await _until_asked(asked, 3)
        assert not task.done(), "it was asked for in the end"
        asked.down, asked.hangs = StoreUnavailable("gone"), how == "hangs"
        error = await error_of(task)
    assert isinstance(error, StoreUnavailable) and "credential" in error.message
    assert {log["event"] for log in logs} == {"identities_not_checked"}


async def test_an_expiry_needs_no_store(open_streams: OpenStreams, asked: Asked) -> None:
    one, other = await begin(open_streams, "one", "other")
    asked.down, asked.gone = StoreUnavailable("gone"), {"one"}
    assert isinstance(await error_of(one), Unauthenticated)
    assert not other.done()
    other.cancel()


async def test_one_that_cannot_be_told_ends_and_no_other(open_streams: OpenStreams, asked: Asked) -> None:
    odd, other, third = await begin(open_streams, "odd", "other", "third")
    with capture_logs():
        assert isinstance(await error_of(odd), StoreUnavailable)
    asked.gone = {"other"}
    assert isinstance(await error_of(other), Unauthenticated)
    third.cancel()


async def test_one_that_is_not_remembered_reads_on_for_a_while(
    open_streams: OpenStreams, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten, other = await begin(open_streams, "forgotten", "other")
    await _until_asked(asked, 3)
    assert not forgotten.done()
    monkeypatch.setattr(streams, "UNCHECKED_SECONDS", 0)
    assert isinstance(await error_of(forgotten), StoreUnavailable)
    assert not other.done()
    other.cancel()


async def _until_asked(asked: Asked, times: int) -> None:
    before = len(asked.refreshed)
    async with asyncio.timeout(30):
        while len(asked.refreshed) < before + times:  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.005)


# ---- in the store


class CountedReads:
    """A store that tells how often it was asked."""

    def __init__(self, db: Any) -> None:
        self._db, self.count = db, 0

    async def read(self, *arguments: Any) -> Any:
        self.count += 1
        return await self._db.read(*arguments)


async def test_many_tokens_are_looked_up_in_few_reads(service: RunningService, clock: FakeClock) -> None:
    secrets = [await service.make_token("viewer", expires_at=clock() + timedelta(hours=1)) for _ in range(120)]
    reads: Any = CountedReads(service.app.db)
    callers = Callers(Tokens(reads, clock))
    shown = [Credential(f"Bearer {secret}", local=True) for secret in secrets]
    await callers.refresh(shown)
    assert reads.count == 3
    assert len({(await callers.identify(each, as_known=True)).principal for each in shown}) == 120
    await service.app.db.write(tokens.revoke, secrets[7][-8:])
    await service.execute("DELETE FROM tokens WHERE id = ?", secrets[8][-8:])
    assert (await callers.identify(shown[7], as_known=True)).role == "viewer"
    await callers.refresh(shown)
    for one, text in ((shown[7], "the token was revoked"), (shown[8], "the token is not known")):
        with pytest.raises(Unauthenticated, match=text):
            await callers.identify(one, as_known=True)
    clock.advance(hours=1)
    with pytest.raises(Unauthenticated, match="expired"):
        await callers.identify(shown[0], as_known=True)
    assert reads.count == 6


async def test_what_was_never_looked_up_is_not_asked_for_as_known(service: RunningService, clock: FakeClock) -> None:
    shown = Credential(f"Bearer {service.token('viewer')}", local=True)
    with pytest.raises(StoreUnavailable):
        await Callers(Tokens(service.app.db, clock)).identify(shown, as_known=True)
