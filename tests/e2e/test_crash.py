"""kill -9 in the middle of many calls: what was answered has happened, and is on the record."""

import asyncio
import random
import signal
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from nofx_grpc.v1 import exchanges_pb2 as pb
from tests.support.processes import ServerProcess, environment, serving
from tests.support.service import Client

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CALLERS = 200
ROUNDS = 10
ACCESS = "/nofx_grpc.v1.Exchanges/AccessExchangeCredentials"


@dataclass
class Answers:
    """What callers were told, over all rounds."""

    created: dict[str, int] = field(default_factory=dict)  # exchange id -> revision
    updated: dict[str, int] = field(default_factory=dict)
    revealed: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.created) + len(self.updated) + len(self.revealed)


async def call_until_killed(server: ServerProcess, name: str, kill_after: int, answers: Answers) -> None:
    """Let callers create, reveal and update; kill the server once so many calls were answered."""
    admin, engine = (Client(server.address, server.token(role)) for role in ("admin", "engine"))
    enough = len(answers) + kill_after

    def count() -> None:
        if len(answers) >= enough:
            server.signal(signal.SIGKILL)

    async def caller(id: str) -> None:
        exchange = pb.Exchange(name="created", type="cex", api_key=f"key of {id}")
        request = pb.CreateExchangeRequest(user_id="default", exchange_id=id, exchange=exchange)
        answers.created[id] = (await admin.exchanges.CreateExchange(request)).revision
        count()
        access = pb.AccessExchangeCredentialsRequest(user_id="default", id=id)
        revealed = await engine.exchanges.AccessExchangeCredentials(access)
        assert revealed.credentials.api_key == f"key of {id}"
        answers.revealed.append(id)
        count()
        update = pb.UpdateExchangeRequest(exchange=pb.Exchange(user_id="default", id=id, name="updated"))
        answers.updated[id] = (await admin.exchanges.UpdateExchange(update)).revision
        count()

    ended = await asyncio.gather(*(caller(f"{name}-{i}") for i in range(CALLERS)), return_exceptions=True)
    for error in ended:
        if error is not None and not isinstance(error, grpc.aio.AioRpcError):
            raise error
    assert any(isinstance(error, grpc.aio.AioRpcError) for error in ended), "the kill came in the middle"
    await asyncio.gather(admin.close(), engine.close())


def assert_whole(path: Path, answers: Answers) -> None:
    """The database is sound, and has everything that anybody was told."""
    with closing(sqlite3.connect(path)) as database:
        query = database.execute
        assert query("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert query("PRAGMA foreign_key_check").fetchall() == []
        revision = query("SELECT revision FROM store_state").fetchone()[0]
        logged = [row[0] for row in query("SELECT DISTINCT revision FROM change_log ORDER BY revision")]
        assert logged == list(range(2, revision + 1))
        rows = {
            id: (row_revision, name) for id, row_revision, name in query("SELECT id, revision, name FROM exchanges")
        }
        log = {tuple(row) for row in query("SELECT id, operation, revision FROM change_log")}
        last = dict(query("SELECT id, max(revision) FROM change_log WHERE kind = 'exchange' GROUP BY id"))
        assert {id: rows[id][0] for id in last} == last
        audited = {row[0] for row in query("SELECT revision FROM audit_log")}
        assert {(id, "create", at) for id, at in answers.created.items()} <= log
        assert {(id, "update", at) for id, at in answers.updated.items()} <= log
        assert {rows[id][1] for id in answers.updated} <= {"updated"}
        assert set(answers.created.values()) | set(answers.updated.values()) <= audited
        on_record = {row[0] for row in query("SELECT resources FROM audit_log WHERE method = ?", (ACCESS,))}
        assert set(answers.revealed) <= on_record


async def test_what_was_answered_survives_ten_kills(tmp_path: Path) -> None:
    data = tmp_path / "data"
    answers = Answers()
    chance = random.Random(20260102)  # noqa: S311  # when to kill need not be unguessable
    for round in range(ROUNDS):
        with serving(environment(data), tmp_path / "log") as server:
            await call_until_killed(server, f"round{round}", chance.randrange(20, 3 * CALLERS - 20), answers)
            assert server.wait() == -signal.SIGKILL
        assert_whole(data / "nofx.db", answers)
    print(f"answered: {len(answers.created)} creates, {len(answers.revealed)} reveals, {len(answers.updated)} updates")
    with serving(environment(data), tmp_path / "log") as server:
        viewer = Client(server.address, server.token("viewer"))
        for id in answers.created:
            found = await viewer.exchanges.GetExchange(pb.GetExchangeRequest(user_id="default", id=id))
            assert found.revision >= answers.created[id]
        await viewer.close()
        assert server.stop() == 0
