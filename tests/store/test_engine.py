"""Reading: one snapshot for each function, at a revision that the answer tells."""

import threading

import pytest

from nofx_grpc.errors import NotFound
from nofx_grpc.store import engine, revisions, users
from nofx_grpc.store.engine import Connection, Database
from tests.store.support import Store, user

EVERY_WAY = pytest.mark.parametrize("way", ["read", "scan", "write"])
READING = pytest.mark.parametrize("way", ["read", "scan"])


def names(connection: Connection) -> list[str]:
    return [row.id for row in users.resource.page(connection, limit=100)]


async def test_what_is_written_is_read_at_its_revision(database: Database) -> None:
    written = await database.write(users.resource.create, user())
    assert written.revision == written.value.revision == 2
    assert await database.read(users.resource.get, "ada") == (written.value, 2)
    assert await database.scan(users.resource.get, "ada") == (written.value, 2)


@READING
async def test_a_read_sees_one_snapshot(database: Database, store: Store, way: str) -> None:
    def count_around_a_commit(connection: Connection) -> tuple[int, int]:
        before = revisions.read_state(connection).revision
        with store.outside() as other:
            other.exec_driver_sql("UPDATE store_state SET revision = revision + 1")
        return before, revisions.read_state(connection).revision

    answer = await getattr(database, way)(count_around_a_commit)
    assert (answer.value, answer.revision) == ((1, 1), 1)
    assert (await database.read(revisions.read_state)).revision == 2, "the next one sees it"


@EVERY_WAY
async def test_the_functions_own_error_reaches_the_caller(database: Database, way: str) -> None:
    with pytest.raises(NotFound):
        await getattr(database, way)(users.resource.get, "nobody")


@READING
async def test_a_read_cannot_write(database: Database, way: str) -> None:
    with pytest.raises(Exception, match="read-only"):
        await getattr(database, way)(lambda connection: connection.exec_driver_sql("DELETE FROM users"))
    assert (await database.read(names)).value == ["default"]


async def test_what_was_got_is_remembered_until_the_next_revision(database: Database, store: Store) -> None:
    await database.write(users.resource.create, user())
    runs: list[str] = []

    def get(connection: Connection, id: str) -> list[str]:
        runs.append(id)
        return names(connection)

    for _ in range(2):
        assert await database.get(get, "ada") == (["ada", "default"], 2)
    assert runs == ["ada"]
    async with store.open() as other:
        await other.write(users.resource.create, user("bob"))
    for _ in range(2):
        assert await database.get(get, "ada") == (["ada", "bob", "default"], 3)
    assert await database.get(get, "bob") == (["ada", "bob", "default"], 3)
    assert runs == ["ada", "ada", "bob"]


async def test_no_more_is_remembered_than_there_is_room_for(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_MOST_REMEMBERED", 2)
    runs: list[str] = []

    def get(_: Connection, id: str) -> str:
        runs.append(id)
        return id

    for id in ("a", "b", "c", "a", "b", "c"):
        assert (await database.get(get, id)).value == id
    assert runs == ["a", "b", "c", "c"]


async def test_an_error_is_not_remembered(database: Database) -> None:
    for _ in range(2):
        with pytest.raises(NotFound):
            await database.get(users.resource.get, "ada")
    await database.write(users.resource.create, user())
    assert (await database.get(users.resource.get, "ada")).value.id == "ada"


async def test_a_scan_leaves_the_event_loop_free(database: Database) -> None:
    assert (await database.read(lambda _: threading.current_thread())).value is threading.main_thread()
    assert (await database.scan(lambda _: threading.current_thread())).value is not threading.main_thread()


async def test_a_database_that_was_never_opened_can_be_closed(store: Store) -> None:
    await Database(store.connect(), store.clock, store.chain()).close()


async def test_closing_twice_is_closing_once(store: Store) -> None:
    async with store.open() as database:
        await database.close()
