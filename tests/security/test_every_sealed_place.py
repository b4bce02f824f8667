"""In every place that is sealed, on both engines: what is not the value that was sealed for it does not open there.

`test_ciphertexts` tries anything at three places; here each place of the list has something wrong in it, and whatever
would open it is asked for.  A place that is added to the list needs its line here.
"""

import os
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from nofx_grpc.crypto.envelope import Envelope
from nofx_grpc.crypto.keyring import Key, Keyring
from nofx_grpc.store.sealed import PLACES, Place, Sealed
from nofx_grpc.v1 import admin_pb2, common_pb2, keys_pb2, system_config_pb2, traders_pb2, users_pb2
from tests.support.people import PASSWORD
from tests.support.sealed import WORD, Scene, furnish, reencrypt, rotate
from tests.support.service import RunningService, refusal_of

Value = str | bytes
Wrong = Callable[[Value, Value, Value], Value]  # of the right value, another place's, and one by a key that is not ours


def flipped(value: Value, *_: Value) -> Value:
    if isinstance(value, bytes):
        return value[:-1] + bytes([value[-1] ^ 1])
    return value[:-4] + ("A" if value[-4] != "A" else "B") + value[-3:]


def truncated(value: Value, *_: Value) -> Value:
    return value[:-4]


def moved(_: Value, other: Value, __: Value) -> Value:
    return other


def foreign(_: Value, __: Value, by_another_key: Value) -> Value:
    return by_another_key


WRONG: dict[str, Wrong] = {"flipped": flipped, "truncated": truncated, "moved": moved, "foreign": foreign}


# ---- how each place is opened: the answer, or what is said of the refusal


async def config(service: RunningService, scene: Scene) -> bytes:
    """A trader's whole configuration, which names what does not open and holds no credential."""
    request = traders_pb2.GetTraderConfigRequest(user_id=scene.user_id, trader_id=scene.trader_id)
    found = await service.client("engine").traders.GetTraderConfig(request)
    assert [blocker.type for blocker in found.blockers] == [common_pb2.BLOCKER_TYPE_SECRET_UNREADABLE]
    parts = (found.exchange_credentials, found.model_credentials, found.signal_source_credentials)
    assert not found.runnable and [part.ByteSize() for part in parts] == [0, 0, 0]
    return found.SerializeToString()


async def refused(call: Awaitable[Any], *codes: grpc.StatusCode) -> bytes:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() in codes, caught.value
    return repr(refusal_of(caught.value)).encode()


async def coin_pool_url(service: RunningService, _: Scene) -> bytes:
    token = await service.make_token("admin", reveal_system=True)
    request = system_config_pb2.AccessSystemSecretRequest(key="coin_pool_api_url")
    call = service.client(token=token).system_config.AccessSystemSecret(request)
    return await refused(call, grpc.StatusCode.DATA_LOSS)


async def complete_registration(service: RunningService, scene: Scene) -> bytes:
    request = users_pb2.CompleteRegistrationRequest(user_id=scene.user_id, otp_code="123456")
    call = service.client("gateway").users.CompleteRegistration(request)
    return await refused(call, grpc.StatusCode.DATA_LOSS, grpc.StatusCode.UNAUTHENTICATED)


async def repeat(service: RunningService, _: Scene) -> bytes:
    """The request whose first answer is kept."""
    request = users_pb2.RegisterUserRequest(email="ann@example.com", password=PASSWORD, request_id="furnish")
    return await refused(service.client("gateway").users.RegisterUser(request), grpc.StatusCode.DATA_LOSS)


async def seal_anew(service: RunningService, _: Scene) -> bytes:
    """What was set aside is opened by nothing else."""
    await rotate(service.client())
    messages = await reencrypt(service.client())
    assert "set_aside" in {value.table for message in messages for value in message.unreadable}
    return b"".join(keys_pb2.ReencryptResponse.SerializeToString(message) for message in messages)


OPENED: dict[str, Callable[[RunningService, Scene], Awaitable[bytes]]] = {
    "users.otp_secret": complete_registration,
    "ai_models.api_key": config,
    "ai_models.custom_api_url": config,
    "exchanges.api_key": config,
    "exchanges.secret_key": config,
    "exchanges.aster_private_key": config,
    "user_signal_sources.coin_pool_url": config,
    "user_signal_sources.oi_top_url": config,
    "system_config.value": coin_pool_url,
    "set_aside.content": seal_anew,
    "request_ids.answer": repeat,
}


def name_of(place: Place) -> str:
    return f"{place.table.name}.{place.column.name}"


# Of the places with several values the one that is asked for.
ROWS = {"system_config.value": ("coin_pool_api_url",), "request_ids.answer": ("token:bootstrap-gateway", "furnish")}


@pytest.fixture
async def scene(service: RunningService) -> Scene:
    scene = await furnish(service)
    token = admin_pb2.Token(display_name="t", role=common_pb2.ROLE_VIEWER)
    await service.client().admin.CreateToken(admin_pb2.CreateTokenRequest(token=token, request_id="other"))
    return scene


async def sealed_in(service: RunningService, place: Place) -> list[Sealed]:
    """Every sealed value of a place, with where it is sealed for: all that a key that is none has not sealed."""
    return (await service.app.db.scan(place.page, foreign_envelope(service, "ffffffff"), (), 1000)).value


def foreign_envelope(service: RunningService, key_id: str) -> Envelope:
    """As ours, but for the key that seals."""
    ours, key = service.app.housekeeping.keys.keyring, Key(key_id, os.urandom(32))
    return Envelope(Keyring(key, {key.id: key}, ours.fingerprint, ours.audit, None))


def by_another_key(service: RunningService, sealed: Sealed) -> Value:
    """The word, sealed for this place by a key that bears the id of ours."""
    envelope, where = foreign_envelope(service, service.app.envelope.primary_id), sealed.where
    if isinstance(sealed.value, bytes):
        return envelope.seal_bytes(WORD.encode(), (where.table, where.user_id, where.row_id))
    return envelope.seal(WORD, where)


async def put(service: RunningService, place: Place, sealed: Sealed, old: Value, new: Value) -> None:
    """Write past the service, and have what it remembers dropped; nobody else has written to the place."""
    table, column = place.table.name, place.column.name
    row = " AND ".join(f"{part.name} = ?" for part in place._key)
    ((found,),) = await service.rows(f"SELECT {column} FROM {table} WHERE {row}", *sealed.key)  # noqa: S608  # names of ours
    assert (bytes(found) if isinstance(found, memoryview) else found) == old, "it is left, for whoever looks into it"
    await service.execute(f"UPDATE {table} SET {column} = ? WHERE {row}", new, *sealed.key)  # noqa: S608  # names of ours
    await service.execute("UPDATE store_state SET revision = revision + 1")


def test_every_place_is_here() -> None:
    assert {name_of(place) for place in PLACES} == OPENED.keys()


@pytest.mark.parametrize("place", PLACES, ids=name_of)
async def test_what_was_not_sealed_for_a_place_is_not_opened_in_it(
    service: RunningService, scene: Scene, place: Place
) -> None:
    values = await sealed_in(service, place)
    sealed = next(found for found in values if found.key == ROWS.get(name_of(place), found.key))
    right: Value = bytes(sealed.value) if isinstance(sealed.value, memoryview) else sealed.value
    everywhere = [found.value for each in PLACES for found in await sealed_in(service, each)]
    other = next(value for value in everywhere if type(value) is type(sealed.value) and value != sealed.value)
    for name, make in WRONG.items():
        changed = make(right, other, by_another_key(service, sealed))
        await put(service, place, sealed, right, changed)
        said = await OPENED[name_of(place)](service, scene)
        assert WORD.encode() not in said, name
        end = changed[-40:] if isinstance(changed, bytes) else changed[-40:].encode()
        assert end not in said, name
        await put(service, place, sealed, changed, right)
