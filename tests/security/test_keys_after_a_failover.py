"""A failover that has lost a rotation: nothing is sealed by a key that no keyring has any more."""

import uuid
from pathlib import Path

import pytest

from nofx_grpc.v1 import models_pb2
from tests.support.clock import FakeClock
from tests.support.sealed import WHOLE, furnish, key_ids, list_keys, reencrypt, rotate, stored
from tests.support.service import RunningService, running_service


async def fail_over(service: RunningService, rows: list[tuple[object, ...]], *, told: bool) -> None:
    """Put the keyring back as it was, as a standby that lacks the last commits has it.

    Where the engine tells that it was promoted, a new history has begun before anybody can write.
    """
    await service.execute("DELETE FROM keyring")
    for row in rows:
        await service.execute(f"INSERT INTO keyring VALUES ({', '.join('?' * len(row))})", *row)  # noqa: S608  # marks
    history = ", history_id = ?" if told else ""
    await service.execute(
        f"UPDATE store_state SET keyring_version = keyring_version - 1{history}",  # noqa: S608  # one of two texts
        *([str(uuid.uuid4())] if told else []),
    )


async def create_model(service: RunningService, id: str, secret: str) -> None:
    model = models_pb2.Model(name="M", provider="qwen", api_key=secret)
    await service.client().models.CreateModel(
        models_pb2.CreateModelRequest(user_id="default", model_id=id, model=model)
    )


async def reveal_model(service: RunningService, id: str) -> str:
    request = models_pb2.AccessModelCredentialsRequest(user_id="default", id=id)
    return (await service.client("engine").models.AccessModelCredentials(request)).credentials.api_key


@pytest.mark.parametrize("told", [True, False], ids=["told", "not told"])
async def test_what_is_written_after_a_lost_rotation_is_sealed_by_a_key_that_is_there(
    service: RunningService, tmp_path: Path, clock: FakeClock, database_env: dict[str, str], told: bool
) -> None:
    keyring = await service.rows("SELECT * FROM keyring")
    old, lost = await rotate(service.client())
    await create_model(service, "before", "sealed by the key that will be lost")
    await service.execute("DELETE FROM ai_models WHERE id = 'before'")  # as the failover does
    await fail_over(service, keyring, told=told)
    await create_model(service, "after", "precious")
    assert lost not in key_ids(await stored(service)) and old in key_ids(await stored(service))
    async with running_service(tmp_path / "data", clock=clock, env=database_env) as restarted:
        assert await reveal_model(restarted, "after") == "precious"


async def test_the_next_rotation_is_taken_up_although_its_number_was_there_before(
    service: RunningService, tmp_path: Path, clock: FakeClock, database_env: dict[str, str]
) -> None:
    """The server has the lost key when another rotates: both count the same."""
    scene = await furnish(service)
    keyring = await service.rows("SELECT * FROM keyring")
    _, lost = await rotate(service.client())
    assert lost in await list_keys(service.client())
    async with running_service(tmp_path / "data", clock=clock, env=database_env) as other:
        await fail_over(other, keyring, told=True)
        _, new = await rotate(other.client())
        await reencrypt(other.client())
        assert key_ids(await stored(other)) == {new}
        assert await scene.revealed(service.client("engine")) == WHOLE
        await create_model(service, "after", "precious")
        assert await reveal_model(other, "after") == "precious"
