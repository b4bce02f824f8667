"""Calls of SystemConfig that several tests make."""

from google.protobuf.message import Message

from nofx_grpc.v1 import system_config_pb2 as pb
from nofx_grpc.v1 import system_config_pb2_grpc
from tests.support.service import Client, Refusal, RunningService

# Test data, not secrets: words that no other text holds, so that a leak can be found.
WORD = "plaintext-90ad3c"
JWT = f"{WORD}-{'j' * 40}"
URL = f"https://user:{WORD}@pool.example.com:8443/api/coins?auth={WORD}"


def client_of(service: RunningService, role: str) -> "system_config_pb2_grpc.SystemConfigAsyncStub":
    return service.client(role).system_config


async def get(service: RunningService, key: str, role: str = "viewer") -> pb.ConfigEntry:
    return await client_of(service, role).GetSystemConfig(pb.GetSystemConfigRequest(key=key))


async def set_all(
    service: RunningService, values: dict[str, str], *, role: str = "admin", **etags: str
) -> list[pb.ConfigEntry]:
    settings = [pb.ConfigSetting(key=key, value=value, etag=etags.get(key, "")) for key, value in values.items()]
    answer = await client_of(service, role).SetSystemConfig(pb.SetSystemConfigRequest(settings=settings))
    return list(answer.entries)


async def reveal(client: Client, key: str) -> pb.AccessSystemSecretResponse:
    return await client.system_config.AccessSystemSecret(pb.AccessSystemSecretRequest(key=key))


def assert_hidden(answer: Message | Refusal) -> None:
    """No part of an answer or refusal may hold a secret."""
    assert WORD not in str(answer)
    if not isinstance(answer, Refusal):
        assert WORD.encode() not in answer.SerializeToString()
