"""Files get their names behind the answers, which wait for the commit only; and for room, where there is none."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from nofx_grpc.errors import StoreUnavailable
from nofx_grpc.store.decisions.folders import Folders
from nofx_grpc.store.decisions.following import Following
from nofx_grpc.store.decisions.looking import Look
from nofx_grpc.store.decisions.publishing import Publishing
from nofx_grpc.v1 import decision_logs_pb2 as pb
from tests.decisions.support import Logs, record
from tests.support.clock import FakeClock
from tests.support.service import refused, running_service


class Disk:
    """A disk that makes no file durable while it is stuck."""

    def __init__(self) -> None:
        self.works, self.asked = threading.Event(), threading.Event()
        self.works.set()

    def get_stuck(self) -> None:
        self.works.clear()
        self.asked.clear()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk, make_durable = Disk(), Folders.make_durable

    def slowly(folders: Folders, token: str) -> None:
        disk.asked.set()
        assert disk.works.wait(20)
        make_durable(folders, token)

    monkeypatch.setattr(Folders, "make_durable", slowly)
    yield disk
    disk.works.set()


def append(logs: Logs, trader_id: str = "t") -> asyncio.Task[pb.Decision]:
    """An append, past what waits for its file."""
    request = pb.AppendDecisionRequest(user_id="alice", trader_id=trader_id, decision=pb.Decision(success=True))
    return asyncio.ensure_future(logs.admin.decision_logs.AppendDecision(request))


def named(logs: Logs) -> int:
    return len(list(logs.root.glob("[tuw]/*.json")))


async def test_an_answer_waits_for_no_file(files: Logs, disk: Disk) -> None:
    made = [await files.append()]
    disk.get_stuck()
    made += [await append(files) for _ in range(3)]
    assert await asyncio.to_thread(disk.asked.wait, 20)
    assert named(files) == 1
    assert await files.ids() == [answer.id for answer in reversed(made)]
    assert (await files.get(made[3].id, view=pb.DECISION_VIEW_RAW)).raw_json
    disk.works.set()
    await files.home.publishing.wait()
    assert named(files) == 4 and list((files.root / ".pending").iterdir()) == []


async def test_a_server_ends_when_the_files_have_their_names(files: Logs, disk: Disk) -> None:
    disk.get_stuck()
    await append(files)
    assert await asyncio.to_thread(disk.asked.wait, 20)
    ending = asyncio.ensure_future(files.service.app.housekeeping.end())
    await asyncio.sleep(0.2)
    assert not ending.done()
    disk.works.set()
    await ending
    assert named(files) == 1 and await files.service.rows("SELECT 1 FROM decision_bodies") == []


async def test_who_appends_faster_than_the_disk_waits_for_it(
    files: Logs, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await files.add_trader("w", "alice")
    monkeypatch.setattr(files.home.publishing, "_room", asyncio.Semaphore(2))
    disk.get_stuck()
    await append(files)
    await append(files, "u")
    third = append(files, "w")
    async with asyncio.timeout(20):
        while await files.counted("w") == 0:  # noqa: ASYNC110  # what is in another place makes no event
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert not third.done(), "there is no room for a third file"
    disk.works.set()
    await third
    await files.home.publishing.wait()
    assert named(files) == 3


async def test_a_slow_disk_holds_up_no_end(files: Logs, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nofx_grpc.housekeeping.LAST_FILES_SECONDS", 0.2)
    disk.get_stuck()
    await append(files)
    await files.service.app.housekeeping.end()
    assert named(files) == 0


async def test_what_has_no_file_gets_it_before_a_server_serves(
    tmp_path: Path, clock: FakeClock, database_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So files are numbered without a gap, too, whenever servers are killed."""
    async with running_service(tmp_path / "data", clock=clock, env=database_env) as service:
        logs = await Logs.of(service)
        with monkeypatch.context() as patch:
            patch.setattr(Folders, "publish", lambda *_: False)
            made = [(await logs.append()).id for _ in range(3)]
        assert named(logs) == 0
    async with running_service(tmp_path / "data", clock=clock, env=database_env) as service:
        logs = Logs(service, service.client("admin"))
        assert sorted(path.stem for path in (logs.root / "t").iterdir()) == sorted(made)


async def test_an_error_of_any_kind_strands_nobody(files: Logs, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Publishing, "_made_durable", lambda *_: 1 / 0)
        first = await files.append()
    await files.append()
    await files.home.settle()
    assert named(files) == 1
    await files.home.tidy()
    assert named(files) == 2 and (files.root / "t" / f"{first.id}.json").exists()


async def test_files_are_made_durable_several_at_one_time(files: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nofx_grpc.store.decisions.publishing._COMPANY_SECONDS", 1.0)
    together = threading.Barrier(2, timeout=20)
    make_durable = Folders.make_durable

    def with_others(folders: Folders, token: str) -> None:
        together.wait()
        make_durable(folders, token)

    monkeypatch.setattr(Folders, "make_durable", with_others)
    await asyncio.gather(*(files.append(trader) for trader in ("t", "u")))
    assert named(files) == 2


async def test_bodies_are_let_go_of_while_others_append(files: Logs) -> None:
    """Under a load without a pause, too, the database keeps bodies of the last moments only."""
    await files.add_trader("w", "alice")
    ended = asyncio.Event()

    async def go_on(trader_id: str) -> None:
        while not ended.is_set():
            await append(files, trader_id)

    callers = [asyncio.ensure_future(go_on(trader)) for trader in ("t", "u", "w")]
    async with asyncio.timeout(20):
        for _ in range(5):
            await asyncio.sleep(0.1)
            await files.home.settle()
    kept = len(await files.service.rows("SELECT 1 FROM decision_bodies"))
    ended.set()
    await asyncio.gather(*callers)
    assert kept < await files.counted("t")


class Looks:
    """Counts how often folders are looked through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        look = Following._look_through

        async def counted(*args: object, **kwargs: object) -> None:
            self.count += 1
            await look(*args, **kwargs)  # type: ignore[arg-type]  # as they came

        monkeypatch.setattr(Following, "_look_through", counted)


async def test_a_new_traders_appends_wait_for_no_file(files: Logs, disk: Disk) -> None:
    disk.get_stuck()
    async with asyncio.timeout(15):
        for _ in range(10):
            await append(files)
    assert named(files) == 0
    disk.works.set()
    await files.home.publishing.wait()
    assert named(files) == 10 and len(await files.ids()) == 10


async def test_files_of_our_own_are_not_looked_for(files: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    await files.append()
    assert len(await files.ids()) == 1
    looks, publish = Looks(monkeypatch), Folders.publish

    def slowly(folders: Folders, folder: str, token: str, name: str) -> bool:
        named = publish(folders, folder, token, name)
        time.sleep(0.02)
        return named

    monkeypatch.setattr(Folders, "publish", slowly)
    for _ in range(30):  # the file of one gets its name while the next one is appended
        await append(files)
    assert len(await files.ids()) == 31 and looks.count == 0


async def test_a_look_stands_whatever_is_named_meanwhile(
    files: Logs, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await files.append()
    assert len(await files.ids()) == 1
    looks, at_records = Looks(monkeypatch), Look.at_records

    async def meanwhile(self: Look) -> None:
        disk.works.set()
        await files.home.publishing.wait()
        await at_records(self)

    monkeypatch.setattr(Look, "at_records", meanwhile)
    disk.get_stuck()
    await append(files)
    files.put("decision_20251118_100000_cycle99.json", record(cycle=99))
    assert len(await files.ids()) == 3 and looks.count == 1
    assert len(await files.ids()) == 3 and looks.count == 1
    files.put("decision_20251118_100001_cycle100.json", record(cycle=100))
    assert len(await files.ids()) == 4 and looks.count == 2
    assert (await files.append()).cycle_number == 101


async def test_a_look_that_fails_goes_on_noting_nothing(files: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise StoreUnavailable("a disk that fails")

    await files.append()
    with monkeypatch.context() as patch:
        patch.setattr(Look, "at_records", fails)
        await refused(files.page(), grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    assert files.home._following._moves == {}
    assert len(await files.ids()) == 1
    assert files.home._following._moves == {}
