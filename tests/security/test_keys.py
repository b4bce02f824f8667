"""Old keys go and secrets stay: keys are listed, rotated and retired, and what they have sealed is sealed anew."""

import asyncio
from typing import Any

import grpc
import pytest

from nofx_grpc.crypto.envelope import Location
from nofx_grpc.services import keys as service_of_keys
from nofx_grpc.v1 import exchanges_pb2, keys_pb2
from tests.support.people import register
from tests.support.sealed import (
    ASIDE,
    EXCHANGE,
    WHOLE,
    furnish,
    key_ids,
    list_keys,
    reencrypt,
    retire,
    rotate,
    sealed_and_rotated,
    stored,
)
from tests.support.service import Client, RunningService, refused

Code = grpc.StatusCode


# ---- ListKeys


async def test_a_key_is_listed_with_what_it_seals(service: RunningService) -> None:
    await furnish(service)
    places = await stored(service)
    listed = await list_keys(service.client())
    purposes = sorted(keys_pb2.KeyPurpose.Name(key.purpose) for key in listed.values())
    assert purposes == ["KEY_PURPOSE_AUDIT", "KEY_PURPOSE_DATA", "KEY_PURPOSE_FINGERPRINT"]
    (data,) = (key for key in listed.values() if key.purpose == keys_pb2.KEY_PURPOSE_DATA)
    uses = {f"{use.table}.{use.column}": use.value_count for use in data.uses}
    assert uses == {place: len(ids) for place, ids in places.items()} and min(uses.values()) > 0 and len(uses) == 11
    assert data.value_count == sum(uses.values()) and data.state == keys_pb2.KEY_STATE_PRIMARY
    assert {key.value_count for key in listed.values() if key is not data} == {0}


async def test_keys_have_pages(service: RunningService) -> None:
    admin, ids, token = service.client().admin, [], ""
    while True:
        page = await admin.ListKeys(keys_pb2.ListKeysRequest(page_size=1, page_token=token))
        ids += [key.id for key in page.keys]
        if not (token := page.next_page_token):
            break
    assert ids == sorted(await list_keys(service.client())) and len(ids) == 3


@pytest.mark.parametrize("role", ["gateway", "engine", "viewer"])
async def test_keys_are_the_admins_business(service: RunningService, role: str) -> None:
    client = service.client(role)
    async with service.nothing_written():
        for call in (list_keys(client), rotate(client), reencrypt(client), retire(client, "00000000")):
            await refused(call, Code.PERMISSION_DENIED, "PERMISSION_DENIED")


# ---- RotateKey


async def test_after_a_rotation_the_old_key_opens_and_the_new_one_seals(service: RunningService) -> None:
    scene = await furnish(service)
    old, new = await rotate(service.client())
    assert await scene.revealed(service.client("engine")) == WHOLE
    await register(service, "bob@example.com")
    assert (await stored(service))["users.otp_secret"] == [old, new]
    listed = await list_keys(service.client())
    states = {
        id: keys_pb2.KeyState.Name(key.state) for id, key in listed.items() if key.purpose == keys_pb2.KEY_PURPOSE_DATA
    }
    assert states == {old: "KEY_STATE_DECRYPT_ONLY", new: "KEY_STATE_PRIMARY"}


async def test_a_rotation_is_on_record_and_repeated_only_once(service: RunningService) -> None:
    request = keys_pb2.RotateKeyRequest(request_id="r")
    first = await service.client().admin.RotateKey(request)
    assert await service.client().admin.RotateKey(request) == first
    assert len(await list_keys(service.client())) == 4
    (record,) = await service.rows("SELECT resources FROM audit_log WHERE method LIKE '%RotateKey' AND reason = ''")
    assert record == (f"rotate to key /{first.key.id}",)


async def test_fingerprints_and_etags_outlive_the_key(service: RunningService) -> None:
    scene = await furnish(service)
    request = exchanges_pb2.GetExchangeRequest(user_id=scene.user_id, id="binance")
    before = await service.client().exchanges.GetExchange(request)
    await rotate(service.client())
    await reencrypt(service.client())
    assert await service.client().exchanges.GetExchange(request) == before


# ---- Reencrypt


async def test_everything_is_sealed_anew_and_nothing_else_changes(service: RunningService) -> None:
    scene = await furnish(service)
    old, new = await rotate(service.client())
    before, revision = await stored(service), await service.revision()
    times = await service.rows("SELECT id, revision, updated_at FROM exchanges ORDER BY user_id, id")
    log = await service.rows("SELECT count(*) FROM change_log")
    messages = await reencrypt(service.client())
    after = await stored(service)
    assert key_ids(before) == {old} and key_ids(after) == {new}
    assert {place: len(ids) for place, ids in before.items()} == {place: len(ids) for place, ids in after.items()}
    assert await service.rows("SELECT id, revision, updated_at FROM exchanges ORDER BY user_id, id") == times
    assert (await service.revision(), await service.rows("SELECT count(*) FROM change_log")) == (revision, log)
    number = sum(map(len, before.values()))
    first, last = messages[0], messages[-1]
    assert (first.total_count, first.done_count, first.key_id) == (number, 0, new)
    assert (last.total_count, last.done_count, last.resealed_count, last.unreadable_count) == (
        number,
        number,
        number,
        0,
    )
    assert await scene.revealed(service.client("engine")) == WHOLE


async def test_answers_kept_for_a_request_id_outlive_the_key(service: RunningService) -> None:
    first = await register(service, request_id="again")
    old, _ = await rotate(service.client())
    await reencrypt(service.client())
    await retire(service.client(), old)
    assert await register(service, request_id="again") == first


async def test_what_was_set_aside_outlives_the_key(service: RunningService) -> None:
    old, _ = await sealed_and_rotated(service)
    await reencrypt(service.client())
    await retire(service.client(), old)
    ((content,),) = await service.rows("SELECT content FROM set_aside")
    where = Location("set_aside", "content", "exchanges", "orphan key")
    assert service.app.envelope.open(content, where) == ASIDE


async def test_a_second_run_has_nothing_to_do(service: RunningService) -> None:
    await sealed_and_rotated(service)
    await reencrypt(service.client())
    async with service.nothing_written():
        (message,) = await reencrypt(service.client())
    assert (message.total_count, message.done_count) == (0, 0)


async def test_a_run_that_is_cut_off_is_taken_up_where_it_was(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_of_keys, "PAGE", 2)
    _, new = await sealed_and_rotated(service)
    stream = service.client().admin.Reencrypt(keys_pb2.ReencryptRequest())
    first = await stream.read()
    assert isinstance(first, keys_pb2.ReencryptResponse)
    total = first.total_count
    await stream.read()
    stream.cancel()
    await ended(service)
    done = sum(ids.count(new) for ids in (await stored(service)).values())
    assert 0 < done < total
    messages = await reencrypt(service.client())
    assert (messages[0].total_count, messages[-1].resealed_count) == (total - done, total - done)
    assert key_ids(await stored(service)) == {new}


async def ended(service: RunningService) -> None:
    """Wait until no stream is open."""
    async with asyncio.timeout(30):
        while service.app.gate.streams._open:  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.01)


async def test_two_runs_at_once_do_not_harm_each_other(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_of_keys, "PAGE", 2)
    scene = await furnish(service)
    _, new = await rotate(service.client())
    keys = (await list_keys(service.client())).values()
    runs = await asyncio.gather(*(reencrypt(service.client()) for _ in range(2)))
    assert key_ids(await stored(service)) == {new}
    assert sum(run[-1].resealed_count for run in runs) == sum(key.value_count for key in keys)
    assert await scene.revealed(service.client("engine")) == WHOLE


async def test_unreadable_values_are_named_and_left(service: RunningService) -> None:
    scene = await furnish(service)
    ((sealed,),) = await service.rows("SELECT api_key FROM exchanges WHERE user_id = ?", scene.user_id)
    damaged = [
        sealed[:-1] + ("A" if sealed[-1] != "A" else "B"),
        "ENC:v1:AAAAAAAAAAAAAAAA:BBBBBBBBBBBBBBBBBBBBBBBB",
        "nofx1:",
    ]
    columns = ("api_key", "secret_key", "aster_private_key")
    for column, value in zip(columns, damaged, strict=True):
        await service.execute(f"UPDATE exchanges SET {column} = ? WHERE user_id = ?", value, scene.user_id)  # noqa: S608
    old, _ = await rotate(service.client())
    messages = await reencrypt(service.client())
    found = {value.column: value for message in messages for value in message.unreadable}
    assert {name: (value.table, value.user_id, value.row_id, value.key_id) for name, value in found.items()} == {
        name: ("exchanges", scene.user_id, "binance", id)
        for name, id in zip(columns, (old, "nofx-v1", ""), strict=True)
    }
    assert messages[-1].unreadable_count == 3
    ((*left,),) = await service.rows(f"SELECT {', '.join(columns)} FROM exchanges WHERE user_id = ?", scene.user_id)  # noqa: S608
    assert left == damaged
    refusal = await refused(retire(service.client(), old), Code.FAILED_PRECONDITION, "IN_USE")
    assert "1 values" in refusal.text and refusal.metadata["used_by"] == "exchanges (1)"


async def test_a_moved_value_is_not_sealed_for_the_place_it_was_moved_to(service: RunningService) -> None:
    scene = await furnish(service)
    await service.execute(
        "UPDATE exchanges SET secret_key = (SELECT api_key FROM ai_models WHERE user_id = ?) WHERE user_id = ?",
        scene.user_id,
        scene.user_id,
    )
    await rotate(service.client())
    messages = await reencrypt(service.client())
    (moved,) = (value for message in messages for value in message.unreadable)
    assert (moved.table, moved.column, moved.row_id) == ("exchanges", "secret_key", "binance")
    request = exchanges_pb2.AccessExchangeCredentialsRequest(user_id=scene.user_id, id="binance")
    await refused(
        service.client("engine").exchanges.AccessExchangeCredentials(request), Code.DATA_LOSS, "SECRET_UNREADABLE"
    )


async def test_an_update_wins_over_what_was_read_before(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is read, then somebody else writes, then the page is sealed anew."""
    scene = await furnish(service)
    _, new = await rotate(service.client())
    scan, changed = service.app.db.scan, False

    async def scan_then_write(fn: Any, *args: Any) -> Any:
        nonlocal changed
        answer = await scan(fn, *args)
        found = answer.value if getattr(fn, "__name__", "") == "page" else []
        if found and found[0].where.table == "exchanges" and not changed:
            changed = True
            await set_secret(service.client(), scene.user_id, "later")
        return answer

    monkeypatch.setattr(service.app.db, "scan", scan_then_write)
    await reencrypt(service.client())
    assert changed
    credentials, *_ = await scene.revealed(service.client("engine"))
    assert credentials == dict.fromkeys(EXCHANGE, "later")
    assert key_ids(await stored(service)) == {new}


async def set_secret(client: Client, user_id: str, value: str) -> exchanges_pb2.Exchange:
    exchange = exchanges_pb2.Exchange(user_id=user_id, id="binance", **dict.fromkeys(EXCHANGE, value))  # type: ignore[arg-type]  # names of fields
    return await client.exchanges.UpdateExchange(exchanges_pb2.UpdateExchangeRequest(exchange=exchange))


async def test_a_reencryption_is_on_record(service: RunningService) -> None:
    await sealed_and_rotated(service)
    (*_, last) = await reencrypt(service.client())
    records = await service.rows(
        "SELECT resources FROM audit_log WHERE method LIKE '%Reencrypt' ORDER BY at, chain_position"
    )
    assert records == [("begun",), (f"{last.resealed_count} values sealed anew, 0 unreadable: all seen to",)]
