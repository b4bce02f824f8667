"""Two servers of one database that do not see the same files: the second one is refused."""

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path

import grpc
import pytest

from nofx_grpc.app import build_app
from nofx_grpc.cli.decision_files import export_to, reindex
from nofx_grpc.errors import StartError
from nofx_grpc.settings import Settings
from tests.decisions.support import Logs
from tests.support.clock import FakeClock
from tests.support.service import refused, running_service

ELSEWHERE = "not the directory which has the decision logs of this database.*NOFX_GRPC_DECISION_LOGS=database"


@pytest.fixture
async def env(tmp_path: Path, clock: FakeClock, database_env: dict[str, str]) -> dict[str, str]:
    """The settings of a store with two records; a second server has the directory of the first, if no other."""
    data = tmp_path / "data"
    async with running_service(data, clock=clock, env=database_env) as service:
        logs = await Logs.of(service)
        await logs.append()
        await logs.append("u")
        await logs.home.settle()
    url = database_env.get("NOFX_GRPC_DATABASE_URL", f"sqlite:///{data / 'nofx.db'}")
    return {
        "NOFX_GRPC_DATABASE_URL": url,
        "NOFX_GRPC_DECISION_LOGS_DIR": str(data / "decision_logs"),
        "NOFX_GRPC_LISTEN": "127.0.0.1:0",
        "NOFX_GRPC_DATA_DIR": str(data),
    }


async def start(env: Mapping[str, str]) -> list[str]:
    """Start a server and stop it again; the records of the trader t that it knows."""
    app = build_app(Settings.load(None, env))
    app.db.open()
    try:
        await app.start()
        found = (await app.db.read(lambda connection: connection.exec_driver_sql(OF_T).scalars().all())).value
        await app.server.stop(0)
        return list(found)
    finally:
        await app.db.close()


OF_T = "SELECT d.id FROM decisions d JOIN decision_logs l ON l.id = d.log_id WHERE l.trader_id = 't'"


def elsewhere(env: Mapping[str, str], tmp_path: Path) -> dict[str, str]:
    return dict(env) | {"NOFX_GRPC_DECISION_LOGS_DIR": str(tmp_path / "elsewhere")}


async def test_servers_that_share_the_directory_start(env: dict[str, str]) -> None:
    assert len(await start(env)) == len(await start(env)) == 1


@pytest.mark.parametrize("like", ["marked", "empty", "missing"])
async def test_another_directory_is_refused(env: dict[str, str], tmp_path: Path, like: str, engine: str) -> None:
    other = elsewhere(env, tmp_path)
    if like != "missing":
        (tmp_path / "elsewhere").mkdir()
    if like == "marked":
        (tmp_path / "elsewhere" / ".id").write_text("of another database\n")
    if engine == "sqlite" and like != "marked":
        await start(other)  # the database is on this machine: it was emptied, or is not mounted
        return
    with pytest.raises(StartError, match=ELSEWHERE):
        await start(other)
    assert not (tmp_path / "elsewhere" / ".pending").exists() and len(await start(env)) == 1


async def test_the_database_as_home_needs_no_directory(env: dict[str, str], tmp_path: Path) -> None:
    await start(elsewhere(env, tmp_path) | {"NOFX_GRPC_DECISION_LOGS": "database"})


async def test_a_directory_that_moved_with_its_files_is_known(env: dict[str, str], tmp_path: Path) -> None:
    shutil.move(env["NOFX_GRPC_DECISION_LOGS_DIR"], tmp_path / "elsewhere")
    assert len(await start(elsewhere(env, tmp_path))) == 1


@pytest.mark.parametrize("like", ["marked", "missing"])
async def test_reindex_takes_another_directory(env: dict[str, str], tmp_path: Path, like: str) -> None:
    other = elsewhere(env, tmp_path)
    (tmp_path / "elsewhere" / "u").mkdir(parents=True)
    if like == "marked":
        (tmp_path / "elsewhere" / ".id").write_text("of another database\n")
    done = await asyncio.to_thread(reindex, Settings.load(None, other))
    assert done.counts["records"] == 0 and await start(other) == []
    with pytest.raises(StartError, match=ELSEWHERE):
        await start(env)
    assert files_in(env) == 2


def files_in(env: Mapping[str, str]) -> int:
    return len(list(Path(env["NOFX_GRPC_DECISION_LOGS_DIR"]).rglob("*.json")))


async def test_commands_are_refused_too(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / ".id").write_text("of another database\n")
    with pytest.raises(StartError, match=ELSEWHERE):
        await asyncio.to_thread(export_to, Settings.load(None, elsewhere(env, tmp_path)), tmp_path / "copy")


async def test_a_directory_that_goes_while_the_server_runs_loses_nothing(
    tmp_path: Path, clock: FakeClock, database_env: dict[str, str]
) -> None:
    async with running_service(tmp_path / "data", clock=clock, env=database_env) as service:
        logs = await Logs.of(service)
        made = await logs.append()
        logs.root.rename(tmp_path / "away")
        logs.root.mkdir()  # the place where it was mounted
        with pytest.raises(Exception, match="the directory of the decision logs is missing"):
            await logs.page()
        await refused(logs.append("u"), grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
        assert not list(logs.root.iterdir()) and await logs.counted("u") == 0
        logs.root.rmdir()
        (tmp_path / "away").rename(logs.root)
        assert await logs.ids() == [made.id]


async def test_one_that_cannot_be_written_to_is_read(
    tmp_path: Path, clock: FakeClock, database_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> str:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("nofx_grpc.store.decisions.marks.make", read_only)
    async with running_service(tmp_path / "data", clock=clock, env=database_env) as service:
        logs = await Logs.of(service)
        path = logs.put("decision_20251118_100000_cycle1.json", {"timestamp": "2025-11-18T10:00:00Z", "success": True})
        assert await logs.ids() == [path.stem]
    async with running_service(tmp_path / "data", clock=clock, env=database_env) as service:
        assert len(await Logs(service, service.client("admin")).ids()) == 1
