"""kill -9 in the middle of many calls: what was answered has happened, and is on the record."""

import asyncio
import random
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from nofx_grpc.v1 import exchanges_pb2 as pb
from tests.support.outside import assert_revisions_without_gaps, rows
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


def assert_whole(env: Mapping[str, str], answers: Answers) -> None:
    """The database is sound, and has everything that anybody was told."""
    if "NOFX_GRPC_DATABASE_URL" not in env:
        assert rows(env, "PRAGMA integrity_check") == [("ok",)]
        assert rows(env, "PRAGMA foreign_key_check") == []
    assert_revisions_without_gaps(env)
    names = dict(rows(env, "SELECT id, name FROM exchanges"))
    log = set(rows(env, "SELECT id, operation, revision FROM change_log"))
    audited = {row[0] for row in rows(env, "SELECT revision FROM audit_log")}
    assert {(id, "create", at) for id, at in answers.created.items()} <= log
    assert {(id, "update", at) for id, at in answers.updated.items()} <= log
    assert {names[id] for id in answers.updated} <= {"updated"}
    assert set(answers.created.values()) | set(answers.updated.values()) <= audited
    on_record = {row[0] for row in rows(env, f"SELECT resources FROM audit_log WHERE method = '{ACCESS}'")}  # noqa: S608  # a name of ours
    assert set(answers.revealed) <= on_record


async def test_what_was_answered_survives_ten_kills(tmp_path: Path, database_env: dict[str, str]) -> None:
    env = environment(tmp_path / "data") | database_env
    answers = Answers()
    chance = random.Random(20260102)  # noqa: S311  # when to kill need not be unguessable
    for round in range(ROUNDS):
        with serving(env, tmp_path / "log") as server:
            await call_until_killed(server, f"round{round}", chance.randrange(20, 3 * CALLERS - 20), answers)
            assert server.wait() == -signal.SIGKILL
        assert_whole(env, answers)
    print(f"answered: {len(answers.created)} creates, {len(answers.revealed)} reveals, {len(answers.updated)} updates")
    with serving(env, tmp_path / "log") as server:
        viewer = Client(server.address, server.token("viewer"))
        for id in answers.created:
            found = await viewer.exchanges.GetExchange(pb.GetExchangeRequest(user_id="default", id=id))
            assert found.revision >= answers.created[id]
        await viewer.close()
        assert server.stop() == 0
