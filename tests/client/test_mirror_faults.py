"""A mirror through whatever can happen to its server and the way to it: real processes, killed; connections, cut."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nofx_grpc.client import Client, NofxClientError, errors
from nofx_grpc.v1 import exchanges_pb2, models_pb2, traders_pb2, users_pb2
from tests.client.mirrors import Mirrored, mirrored, until
from tests.client.support import AnyClient
from tests.support.places import PLACES, Servers, running
from tests.support.processes import run

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

TRADERS = ("t-1", "t-2", "t-3")


class Fleet:
    """Traders who share a model, on a server that is killed."""

    def __init__(self, place: Servers) -> None:
        self.place, self.names = place, 0
        with self.admin() as nofx:
            nofx.users.create_user(user_id="ada", user=users_pb2.User(email="ada@example.com"))
            model = models_pb2.Model(name="0", provider="qwen", enabled=True, api_key="sk-mirror-1")
            nofx.models.create_model(user_id="ada", model_id="m", model=model)
            exchange = exchanges_pb2.Exchange(name="X", type="cex", enabled=True, api_key="k-mirror-1")
            nofx.exchanges.create_exchange(user_id="ada", exchange_id="okx", exchange=exchange)
            for id in TRADERS:
                trader = traders_pb2.Trader(name=id, ai_model_id="m", exchange_id="okx", initial_balance=1.0)
                nofx.traders.create_trader(user_id="ada", trader_id=id, trader=trader)

    def admin(self) -> Client:
        """A client that the proxy does not come between."""
        return Client(self.place.direct_address, token=self.place.token("admin"))

    async def change_model(self) -> str:
        """Change what all traders share; its new name."""
        self.names += 1
        model = models_pb2.Model(user_id="ada", id="m", name=str(self.names))
        await asyncio.to_thread(self._update, model)
        return model.name

    def _update(self, model: models_pb2.Model) -> None:
        with self.admin() as nofx:
            nofx.models.update_model(model=model)

    async def restart(self, how: signal.Signals, *meanwhile: str) -> None:
        """End the server, change the database past the service, and start it again."""
        await asyncio.to_thread(self.place.stop, how)
        self.place.past.execute(*((sql,) for sql in meanwhile))
        await asyncio.to_thread(self.place.start)

    def back_up(self, directory: Path) -> None:
        self._command("backup", str(directory))

    def restore(self, directory: Path) -> None:
        """Put a backup in the place of the store, as an operator does."""
        self.place.stop(signal.SIGKILL)
        for part in Path(self.place.env["NOFX_GRPC_DATA_DIR"]).glob("nofx.db*"):
            part.rename(part.with_name(f"old-{part.name}"))
        self._command("restore", str(directory))
        self.place.start()

    def _command(self, *arguments: str) -> None:
        done = run(*arguments, env=self.place.env)
        assert done.returncode == 0, done.stderr


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with running(PLACES["one"](tmp_path)) as place:
        yield await asyncio.to_thread(Fleet, place)


@pytest.fixture
async def held(fleet: Fleet, kind: type[AnyClient]) -> AsyncIterator[Mirrored]:
    nofx = kind(fleet.place.address, token=fleet.place.token("engine"))
    async with mirrored(nofx, user_id="ada", silence=5.0) as one:
        await one.synced()
        await until(lambda: sorted(one.told) == list(TRADERS))
        one.told.clear()
        yield one


def models(held: Mirrored) -> set[str]:
    """The names of the model that all traders of a view share: one, or the view shows a part of a revision."""
    return {config.model.name for config in held.mirror.view.values()}


async def sees(held: Mirrored, name: str) -> None:
    await until(lambda: models(held) == {name})


async def catches_up(fleet: Fleet, held: Mirrored) -> None:
    """One more change must be shown and told, nothing else told, and the age be that of a mirror that is well."""
    name = await fleet.change_model()
    await sees(held, name)
    await until(lambda: sorted(held.told) == sorted(held.names))
    held.told.clear()
    await until(lambda: held.mirror.age < 0.5 and held.mirror.trouble is None)


async def test_it_survives_cuts_and_restarts(fleet: Fleet, held: Mirrored) -> None:
    await catches_up(fleet, held)
    for _ in range(2):
        fleet.place.proxies[0].cut()
        await catches_up(fleet, held)
    for how in (signal.SIGKILL, signal.SIGTERM):
        await fleet.restart(how)
        await catches_up(fleet, held)
    fleet.place.proxies[0].delay = 0.05
    await catches_up(fleet, held)
    fleet.place.proxies[0].silence()
    await until(lambda: "silent for 5 seconds" in str(held.mirror.trouble))
    fleet.place.proxies[0].speak()
    await catches_up(fleet, held)


async def test_what_was_missed_is_told_however_it_was_missed(fleet: Fleet, held: Mirrored) -> None:
    await asyncio.to_thread(fleet.place.stop, signal.SIGKILL)
    await until(lambda: isinstance(held.mirror.trouble, errors.Unavailable))
    await until(lambda: held.mirror.age > 1)
    compact = "UPDATE store_state SET compacted_revision = revision"
    await asyncio.to_thread(fleet.place.start)
    with fleet.admin() as nofx:
        nofx.traders.delete_trader(user_id="ada", id="t-2")
    await until(lambda: held.told == ["-t-2"])
    held.told.clear()
    await catches_up(fleet, held)

    later = "UPDATE store_state SET revision = revision + 50"
    await fleet.restart(signal.SIGTERM, later, "UPDATE ai_models SET name = 'x' WHERE id = 'm'", compact)
    await until(lambda: models(held) == {"x"} and sorted(held.told) == ["t-1", "t-3"])
    held.told.clear()
    await catches_up(fleet, held)


async def test_a_restore(fleet: Fleet, held: Mirrored, tmp_path: Path) -> None:
    """Of what was done since the backup nothing is left, in a history of its own."""
    await catches_up(fleet, held)
    old, backup = models(held), tmp_path / "backup"
    await asyncio.to_thread(fleet.back_up, backup)
    backed_up = held.mirror.view.revision
    await catches_up(fleet, held)
    with fleet.admin() as nofx:
        nofx.traders.delete_trader(user_id="ada", id="t-2")
    await until(lambda: held.told == ["-t-2"])
    held.told.clear()

    await asyncio.to_thread(fleet.restore, backup)
    await until(lambda: models(held) == old and sorted(held.told) == list(TRADERS))
    now = held.mirror.view.revision
    assert backed_up is not None and now is not None
    assert now.number == backed_up.number and now.history != backed_up.history
    held.told.clear()
    await catches_up(fleet, held)


async def test_commits_that_a_failover_has_lost(fleet: Fleet, held: Mirrored) -> None:
    for _ in range(4):
        await catches_up(fleet, held)
    lost = "UPDATE store_state SET revision = revision - 3"
    await fleet.restart(
        *(signal.SIGKILL, lost, "DELETE FROM change_log", "UPDATE store_state SET compacted_revision = 0"),
        "UPDATE ai_models SET name = 'older' WHERE id = 'm'",
    )
    await until(lambda: models(held) == {"older"} and sorted(held.told) == list(TRADERS))
    held.told.clear()
    await catches_up(fleet, held)


async def test_no_reader_sees_a_part_of_a_revision(fleet: Fleet, held: Mirrored) -> None:
    done = asyncio.Event()
    seen: list[int] = []
    revisions: list[int] = []

    async def look() -> None:
        while not done.is_set():
            view = held.mirror.view
            seen.append(len({config.model.name for config in view.values()}))
            revisions.append(view.revision.number if view.revision else 0)
            await asyncio.sleep(0.001)

    looking = asyncio.create_task(look())
    for number in range(31):
        if number % 10 == 5:
            fleet.place.proxies[0].cut()
        name = await fleet.change_model()
        if number % 5 == 0:  # so that it sees some revisions, however long it took to come back
            await sees(held, name)
    done.set()
    await looking
    assert max(seen) == 1 and revisions == sorted(revisions) and len(set(revisions)) > 5


async def test_a_client_that_is_closed_under_its_mirror(fleet: Fleet, held: Mirrored) -> None:
    if isinstance(held.mirror._nofx, Client):
        held.mirror._nofx.close()
    else:
        await held.mirror._nofx.close()
    failed = await held.failed(Exception)
    assert not isinstance(failed, NofxClientError)
    assert "closed" in str(failed)
