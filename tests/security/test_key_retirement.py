"""A key is retired when it seals nothing any more, and not before; then nothing that it has sealed opens."""

import json
import os
import time
from base64 import b64encode

import grpc
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from nofx_grpc.crypto.envelope import Location
from nofx_grpc.crypto.keyring import nofx_record
from nofx_grpc.store import keys as keyring
from nofx_grpc.store.live_keys import RETIRED_SECONDS
from nofx_grpc.v1 import exchanges_pb2, users_pb2
from tests.support.clock import START, FakeClock
from tests.support.people import authenticate, complete, register, verify_otp
from tests.support.sealed import (
    ASIDE,
    WHOLE,
    furnish,
    list_keys,
    put_aside,
    reencrypt,
    retire,
    rotate,
    sealed_and_rotated,
)
from tests.support.service import RunningService, refused

Code = grpc.StatusCode
NOFX_KEY = bytes(range(32))


async def forget_retired(service: RunningService) -> None:
    """What is done a while after a key was retired."""
    await list_keys(service.client())
    keys = service.app.housekeeping.keys
    keys._monotonic = lambda: time.monotonic() + RETIRED_SECONDS
    keys.forget_retired()


async def test_a_key_in_use_is_not_retired(service: RunningService) -> None:
    old, _ = await sealed_and_rotated(service)
    number = (await list_keys(service.client()))[old].value_count
    async with service.nothing_written():
        refusal = await refused(retire(service.client(), old), Code.FAILED_PRECONDITION, "IN_USE")
    assert f"in use by {number} values that it seals" in refusal.text
    tables = "users (1), ai_models (2), exchanges (3), user_signal_sources (2), system_config (2), set_aside (1)"
    assert refusal.metadata["used_by"] == f"{tables}, request_ids (1)"


async def test_a_retired_key_is_gone_and_everything_still_opens(service: RunningService) -> None:
    scene = await furnish(service)
    engine = service.client("engine")
    await scene.revealed(engine)  # remembered by the server, sealed by the old key
    old, new = await rotate(service.client())
    await scene.revealed(engine)
    await reencrypt(service.client())
    await retire(service.client(), old)
    assert await service.last_record("resources") == (f"retire key /{old}",)
    await forget_retired(service)
    assert await scene.revealed(engine) == WHOLE
    assert (old,) not in await service.rows("SELECT id FROM keyring")
    assert old not in await list_keys(service.client()) and new in await list_keys(service.client())


async def test_what_a_retired_key_has_sealed_does_not_open(service: RunningService) -> None:
    """Somebody puts an old ciphertext back, of a backup."""
    scene = await furnish(service)
    ((sealed,),) = await service.rows("SELECT api_key FROM exchanges WHERE user_id = ?", scene.user_id)
    old, _ = await rotate(service.client())
    await reencrypt(service.client())
    await retire(service.client(), old)
    await forget_retired(service)
    await service.execute("UPDATE exchanges SET api_key = ? WHERE user_id = ?", sealed, scene.user_id)
    request = exchanges_pb2.AccessExchangeCredentialsRequest(user_id=scene.user_id, id="binance")
    refusal = await refused(
        service.client("engine").exchanges.AccessExchangeCredentials(request), Code.DATA_LOSS, "SECRET_UNREADABLE"
    )
    assert refusal.metadata["field"] == "api_key"


@pytest.mark.parametrize("purpose", ["fingerprint", "audit"])
async def test_keys_that_are_not_for_data_stay(service: RunningService, purpose: str) -> None:
    ((id,),) = await service.rows("SELECT id FROM keyring WHERE purpose = ?", purpose)
    refusal = await refused(retire(service.client(), id), Code.FAILED_PRECONDITION, "FAILED_PRECONDITION")
    assert purpose in refusal.text


async def test_the_primary_key_stays(service: RunningService) -> None:
    id = service.app.envelope.primary_id
    refusal = await refused(retire(service.client(), id), Code.FAILED_PRECONDITION, "FAILED_PRECONDITION")
    assert "rotate first" in refusal.text


async def test_a_key_that_is_not_there(service: RunningService) -> None:
    await refused(retire(service.client(), "00000000"), Code.NOT_FOUND, "NOT_FOUND")
    await retire(service.client(), "00000000", allow_missing=True)


async def test_page_tokens_end_with_their_key(service: RunningService) -> None:
    await service.add_users("u1", "u2", "u3")
    users = service.client().users
    token = (await users.ListUsers(users_pb2.ListUsersRequest(page_size=1))).next_page_token
    old, _ = await rotate(service.client())
    second = users_pb2.ListUsersRequest(page_size=1, page_token=token)
    assert len((await users.ListUsers(second)).users) == 1, "a rotation alone ends none"
    await reencrypt(service.client())
    await retire(service.client(), old)
    await forget_retired(service)
    await refused(users.ListUsers(second), Code.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")


async def test_a_login_that_has_begun_goes_on_after_a_rotation_and_ends_with_the_key(
    service: RunningService, clock: FakeClock
) -> None:
    ann = await register(service)
    await complete(service, ann, clock.now)
    clock.advance(seconds=60)
    begun = [(await authenticate(service, ann.email, ann.password)).otp_challenge.login_token for _ in range(2)]
    old, _ = await rotate(service.client())
    assert (await verify_otp(service, begun[0], ann.code(clock.now))).id == ann.id
    await reencrypt(service.client())
    await retire(service.client(), old)
    await forget_retired(service)
    clock.advance(seconds=60)
    await refused(verify_otp(service, begun[1], ann.code(clock.now)), Code.UNAUTHENTICATED, "LOGIN_REFUSED")
    anew = await authenticate(service, ann.email, ann.password, ann.code(clock.now))
    assert anew.user.id == ann.id, "the secret of the codes was sealed anew"


# ---- the key of NOFX


async def test_what_nofx_encrypted_in_what_was_set_aside_is_opened_and_then_its_key_is_retired(
    service: RunningService,
) -> None:
    """A whole row that was set aside has its secrets as NOFX had them."""
    await add_nofx_key(service, NOFX_KEY)
    opens, damaged = sealed_by_nofx("inside", NOFX_KEY), sealed_by_nofx("inside", bytes(32))
    await put_aside(service, service.app.envelope, json.dumps({"api_key": opens, "secret_key": damaged, "n": 1}))
    await put_aside(service, service.app.envelope, ASIDE, "plain")
    before = (await list_keys(service.client()))["nofx-v1"]
    assert [(use.table, use.value_count) for use in before.uses] == [("set_aside", 1)]
    await refused(retire(service.client(), "nofx-v1"), Code.FAILED_PRECONDITION, "IN_USE")
    (*_, last) = await reencrypt(service.client())
    assert (last.total_count, last.resealed_count, last.unreadable_count) == (1, 1, 0)
    await retire(service.client(), "nofx-v1")
    ((content,), _) = await service.rows("SELECT content FROM set_aside ORDER BY id")
    opened = service.app.envelope.open(content, Location("set_aside", "content", "exchanges", "orphan key"))
    assert json.loads(opened) == {"api_key": "inside", "secret_key": damaged, "n": 1}
    assert "nofx-v1" not in await list_keys(service.client())


async def add_nofx_key(service: RunningService, key: bytes) -> None:
    """Put NOFX's key into the keyring, as adoption does."""
    master = service.app.housekeeping.keys.master
    await service.app.db.write(keyring.append, [nofx_record(key, master, os.urandom, START)])
    await service.execute("UPDATE store_state SET keyring_version = keyring_version + 1")


def sealed_by_nofx(text: str, key: bytes) -> str:
    nonce = os.urandom(12)
    parts = (nonce, AESGCM(key).encrypt(nonce, text.encode(), None))
    return "ENC:v1:" + ":".join(b64encode(part).decode() for part in parts)
