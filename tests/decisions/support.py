"""A service with traders, and short words for what is done with their decision logs."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nofx_grpc.store.decisions.file_home import FileHome
from nofx_grpc.v1 import decision_logs_pb2 as pb
from tests.support.service import Client, RunningService

SAMPLE = Path(__file__).parents[1] / "data" / "nofx-sample" / "decision_logs"


@dataclass
class Logs:
    """The decision logs of a running service."""

    service: RunningService
    admin: Client

    @classmethod
    async def of(cls, service: RunningService) -> "Logs":
        made = cls(service, service.client("admin"))
        await service.add_users("alice", "bob")
        await made.add_trader("t", "alice")
        await made.add_trader("u", "alice")
        await made.add_trader("b", "bob")
        return made

    @property
    def root(self) -> Path:
        return self.service.data_dir / "decision_logs"

    @property
    def home(self) -> FileHome:
        home = self.service.app.housekeeping.decisions.home
        assert isinstance(home, FileHome)
        return home

    async def add_trader(self, id: str, user_id: str) -> None:
        """A trader, past the service, with what it refers to."""
        execute = self.service.execute
        for table in ("ai_models", "exchanges"):
            known = f"SELECT 1 FROM {table} WHERE id = ? AND user_id = ?"  # noqa: S608 - our own tables
            if not await self.service.rows(known, f"m-{user_id}", user_id):
                kind = "provider" if table == "ai_models" else "type"
                await execute(
                    f"INSERT INTO {table} (id, user_id, name, {kind}, revision) VALUES (?, ?, 'm', 'x', 1)",  # noqa: S608 - our own tables
                    f"m-{user_id}",
                    user_id,
                )
        await execute(
            "INSERT INTO traders (id, user_id, name, ai_model_id, exchange_id, initial_balance, revision)"
            " VALUES (?, ?, 'T', ?, ?, 1000, 1)",
            *(id, user_id, f"m-{user_id}", f"m-{user_id}"),
        )

    async def append(
        self,
        trader_id: str = "t",
        user_id: str = "alice",
        *,
        request_id: str = "",
        client: Client | None = None,
        **fields: Any,
    ) -> pb.Decision:
        request = pb.AppendDecisionRequest(
            user_id=user_id,
            trader_id=trader_id,
            request_id=request_id,
            decision=pb.Decision(**({"success": True} | fields)),
        )
        answer = await (client or self.admin).decision_logs.AppendDecision(request)
        if isinstance(home := self.service.app.housekeeping.decisions.home, FileHome):
            await home.publishing.wait()  # for its file, which the answer does not wait for
        return answer

    async def get(self, id: str, trader_id: str = "t", user_id: str = "alice", **fields: Any) -> pb.Decision:
        return await self.admin.decision_logs.GetDecision(
            pb.GetDecisionRequest(user_id=user_id, trader_id=trader_id, id=id, **fields)
        )

    async def page(self, trader_id: str = "t", user_id: str = "alice", **fields: Any) -> pb.ListDecisionsResponse:
        return await self.admin.decision_logs.ListDecisions(
            pb.ListDecisionsRequest(user_id=user_id, trader_id=trader_id, **fields)
        )

    async def ids(self, trader_id: str = "t", user_id: str = "alice", **fields: Any) -> list[str]:
        return [decision.id for decision in (await self.page(trader_id, user_id, **fields)).decisions]

    async def prune(self, trader_id: str = "t", user_id: str = "", **fields: Any) -> pb.PruneDecisionsResponse:
        return await self.admin.decision_logs.PruneDecisions(
            pb.PruneDecisionsRequest(user_id=user_id, trader_id=trader_id, **fields)
        )

    def tail(self, trader_id: str = "t", client: Client | None = None, **fields: Any) -> Any:
        return (client or self.admin).decision_logs.TailDecisions(
            pb.TailDecisionsRequest(trader_id=trader_id, **fields)
        )

    async def counted(self, trader_id: str = "t") -> int:
        """How many records the log says it has."""
        rows = await self.service.rows("SELECT total_cycles FROM decision_logs WHERE trader_id = ?", trader_id)
        return int(rows[0][0]) if rows else 0

    def put(self, name: str, content: bytes | dict[str, Any], folder: str = "t") -> Path:
        """A file from elsewhere."""
        path = self.root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path


def record(cycle: int = 1, at: str = "2025-11-18T10:00:00Z", **fields: Any) -> dict[str, Any]:
    """The content of a record as another program writes it."""
    return {"timestamp": at, "cycle_number": cycle, "success": True, "decisions": None} | fields


async def until_synced(stream: Any) -> list[str]:
    """The ids that a stream begins with."""
    ids: list[str] = []
    while True:
        response = await stream.read()
        ids += [decision.id for decision in response.decisions]
        if response.synced:
            return ids
