"""Resources with the five usual rpcs, so that one test can be run on each of them."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from nofx_grpc.v1 import exchanges_pb2, models_pb2
from tests.support.service import Client, Refusal, RunningService, refused

# Test data, not a secret: a word that no other text holds, so that a leak can be found.
SECRET = "plaintext-e7b1a9"


@dataclass(frozen=True)
class Noun:
    """One resource: how it is called, and the fields of a new one."""

    name: str
    fields: dict[str, Any]
    pb: ModuleType
    table: str

    def __str__(self) -> str:
        return self.name

    @property
    def plural(self) -> str:
        return f"{self.name}s"

    def call(self, client: Client, verb: str, request: Any) -> Any:
        """Start the rpc `<verb><Noun>` or `<verb><Noun>s`."""
        return getattr(getattr(client, self.plural), self.rpc(verb))(request)

    def rpc(self, verb: str) -> str:
        if verb == "Access":
            return f"Access{self.name.title()}Credentials"
        return verb + (self.plural if verb == "List" else self.name).title()

    def request(self, verb: str, **fields: Any) -> Any:
        return getattr(self.pb, f"{self.rpc(verb)}Request")(**fields)

    def resource(self, **fields: Any) -> Any:
        return getattr(self.pb, self.name.title())(**fields)

    async def create(
        self, client: Client, id: str = "one", user_id: str = "alice", *, request_id: str = "", **fields: Any
    ) -> Any:
        chosen = {f"{self.name}_id": id, self.name: self.resource(**(self.fields | fields))}
        return await self.call(
            client, "Create", self.request("Create", user_id=user_id, request_id=request_id, **chosen)
        )

    async def get(self, client: Client, id: str = "one", user_id: str = "alice") -> Any:
        return await self.call(client, "Get", self.request("Get", user_id=user_id, id=id))

    def listed(self, response: Any) -> tuple[Any, ...]:
        return tuple(getattr(response, self.plural))

    async def list(self, client: Client, **fields: Any) -> Any:
        return await self.call(client, "List", self.request("List", **fields))

    async def update(
        self,
        client: Client,
        *paths: str,
        id: str = "one",
        user_id: str = "alice",
        allow_missing: bool = False,
        **fields: Any,
    ) -> Any:
        changed = {self.name: self.resource(user_id=user_id, id=id, **fields)}
        mask = FieldMask(paths=paths)
        return await self.call(
            client, "Update", self.request("Update", update_mask=mask, allow_missing=allow_missing, **changed)
        )

    async def delete(self, client: Client, id: str = "one", user_id: str = "alice", **fields: Any) -> Any:
        return await self.call(client, "Delete", self.request("Delete", user_id=user_id, id=id, **fields))

    async def credentials(self, client: Client, id: str = "one", user_id: str = "alice") -> Any:
        return (await self.call(client, "Access", self.request("Access", user_id=user_id, id=id))).credentials


NOUNS = [
    Noun(
        "exchange", {"name": "Mine", "type": "cex", "api_key": SECRET, "secret_key": SECRET}, exchanges_pb2, "exchanges"
    ),
    Noun("model", {"name": "Mine", "provider": "deepseek", "api_key": SECRET}, models_pb2, "ai_models"),
]


def assert_hidden(answer: Any) -> None:
    """No part of an answer or refusal may hold the secret."""
    assert SECRET not in str(answer) and SECRET.encode() not in getattr(answer, "SerializeToString", bytes)()


async def refuse(service: RunningService, call: Any, code: grpc.StatusCode, reason: str) -> Refusal:
    """A refusal that leaves the store as it was and tells no secret."""
    async with service.nothing_written():
        refusal = await refused(call, code, reason)
    assert_hidden(refusal)
    return refusal
