"""A store whose records change their home: none of them is lost on the way."""

import asyncio
from pathlib import Path

import pytest

from nofx_grpc.cli.decision_files import import_from
from nofx_grpc.settings import Settings
from tests.decisions.support import Logs
from tests.support.clock import FakeClock
from tests.support.service import running_service


async def test_records_of_the_database_become_files(
    tmp_path: Path, clock: FakeClock, database_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nofx_grpc.store.decisions.file_home._AT_START", 0)
    in_database = database_env | {"NOFX_GRPC_DECISION_LOGS": "database"}
    async with running_service(tmp_path / "data", clock=clock, env=in_database) as service:
        logs = await Logs.of(service)
        made = [(await logs.append(error_message=str(n))).id for n in range(25)]
    async with running_service(tmp_path / "data", clock=clock, env=database_env) as service:
        logs = Logs(service, service.client("admin"))
        assert sorted(await logs.ids()) == sorted(made), "they are read before they are files"
        assert await logs.home.tidy() == 25
        assert sorted(path.stem for path in (logs.root / "t").iterdir()) == sorted(made)
        assert await service.rows("SELECT 1 FROM decision_bodies") == []
        assert (await logs.append()).cycle_number == 26 and await logs.counted() == 26


async def test_what_an_older_release_had_committed_and_not_named_gets_its_file(
    tmp_path: Path, clock: FakeClock, database_env: dict[str, str]
) -> None:
    """Before schema 0009 the body was in `.pending` alone."""
    async with running_service(tmp_path / "data", clock=clock, env=database_env) as service:
        logs = await Logs.of(service)
        made = [await logs.append(name) for name in "ttu"]
        await logs.home.settle()
    path = tmp_path / "data" / "decision_logs" / "t" / f"{made[1].id}.json"
    path.rename(path.parents[1] / ".pending" / "0123456789abcdef01234567")
    async with running_service(tmp_path / "data", clock=clock, env=database_env) as service:
        logs = Logs(service, service.client("admin"))
        assert await logs.ids() == [made[1].id, made[0].id] and path.exists()
        assert await logs.ids("u") == [made[2].id] and await logs.counted() == 2


@pytest.mark.parametrize("settled", [True, False])
async def test_records_in_files_are_imported_into_the_database(
    tmp_path: Path, clock: FakeClock, database_env: dict[str, str], *, settled: bool
) -> None:
    async with running_service(tmp_path / "data", clock=clock, env=database_env) as service:
        logs = await Logs.of(service)
        made = [(await logs.append(error_message=str(n))).id for n in range(5)]
        if settled:
            await logs.home.settle()
        root = logs.root
    in_database = database_env | {"NOFX_GRPC_DECISION_LOGS": "database", "NOFX_GRPC_DATA_DIR": str(tmp_path / "data")}
    lacking = 5 if settled else 0
    done = await asyncio.to_thread(import_from, Settings.load(None, in_database), root)
    assert done.counts == {"imported": lacking, "not_imported": 5 - lacking}
    async with running_service(tmp_path / "data", clock=clock, env=in_database) as service:
        logs = Logs(service, service.client("admin"))
        assert sorted(await logs.ids()) == sorted(made) and await logs.counted() == 5
        assert (await logs.append()).cycle_number == 6
