"""SystemConfig over a real server: read, list, set, the public part; who may do what."""

import grpc
import pytest

from nofx_grpc.services.config_keys import KNOWN
from nofx_grpc.v1 import system_config_pb2 as pb
from tests.support.clock import FakeClock
from tests.support.config import JWT, URL, WORD, assert_hidden, client_of, get, reveal, set_all
from tests.support.service import RunningService, refused

Code = grpc.StatusCode

# ---- read


async def test_a_new_store_has_the_defaults(service: RunningService) -> None:
    for key in KNOWN.values():
        entry = await get(service, key.name)
        assert (entry.key, entry.type, entry.secret, entry.known) == (key.name, key.type, key.secret, True)
        assert entry.value == ("" if key.secret else key.default) and entry.default_value == key.default
        assert entry.HasField("value") is not key.secret
    assert (await get(service, "jwt_secret")).value_set


async def test_a_known_key_that_is_not_stored_is_answered_by_its_default(service: RunningService) -> None:
    await service.execute("DELETE FROM system_config WHERE key = 'max_drawdown'")
    entry = await get(service, "max_drawdown")
    assert (entry.value, entry.value_set, entry.etag, entry.revision) == ("20.0", False, "", 0)
    assert not entry.HasField("update_time")


async def test_an_unknown_key_that_is_not_stored_is_not_found(service: RunningService) -> None:
    refusal = await refused(get(service, "no_such_key"), Code.NOT_FOUND, "NOT_FOUND")
    assert refusal.metadata == {"kind": "configuration entry", "id": "no_such_key"}


@pytest.mark.parametrize("key", ["", "a\nb", "k" * 513])
async def test_a_malformed_key_is_refused(service: RunningService, key: str) -> None:
    refusal = await refused(get(service, key), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert list(refusal.violations) == ["key"]


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
async def test_lists_give_every_entry_once_in_the_order_of_bytes(service: RunningService, size: int) -> None:
    await service.execute(
        "DELETE FROM system_config WHERE key IN ('altcoin_leverage', 'max_drawdown', 'use_default_coins')"
    )
    await set_all(service, {"ÿ": "1", "B": "2", "max_e": "3", "zz": "4"})
    request = pb.ListSystemConfigRequest(page_size=size)
    found: list[pb.ConfigEntry] = []
    while True:
        page = await client_of(service, "viewer").ListSystemConfig(request)
        assert len(page.entries) <= size
        found += page.entries
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    keys = [entry.key for entry in found]
    assert keys == sorted([*KNOWN, "ÿ", "B", "max_e", "zz"], key=str.encode)
    assert WORD not in str(found)


async def test_the_public_configuration(service: RunningService) -> None:
    await set_all(service, {"beta_mode": "true", "default_coins": '["sol"]', "btc_eth_leverage": "20"})
    public = await client_of(service, "viewer").GetPublicConfig(pb.GetPublicConfigRequest())
    assert public == pb.PublicConfig(
        beta_mode=True,
        registration_enabled=True,
        default_coins=["SOLUSDT"],
        btc_eth_leverage=20,
        altcoin_leverage=5,
        revision=await service.revision(),
    )


# ---- set


async def test_several_keys_are_set_at_one_revision(service: RunningService, clock: FakeClock) -> None:
    clock.advance(seconds=1)
    entries = await set_all(service, {"max_daily_loss": "7", "beta_mode": "TRUE", "a key of tomorrow": " x "})
    assert [(entry.key, entry.value) for entry in entries] == [
        ("max_daily_loss", "7.0"),
        ("beta_mode", "true"),
        ("a key of tomorrow", " x "),
    ]
    assert {entry.revision for entry in entries} == {await service.revision()}
    assert [entry.known for entry in entries] == [True, True, False]
    assert [await get(service, entry.key) for entry in entries] == entries
    record = await service.last_record("method", "resources", "outcome", "revision")
    named = "; ".join(
        f"{verb} configuration entry /{key}"
        for verb, key in (("update", "max_daily_loss"), ("update", "beta_mode"), ("create", "a key of tomorrow"))
    )
    assert record == ("/nofx_grpc.v1.SystemConfig/SetSystemConfig", named, "OK", entries[0].revision)


async def test_setting_what_is_there_changes_nothing(service: RunningService) -> None:
    entries = await set_all(service, {"beta_mode": "true", "jwt_secret": JWT, "oi_top_api_url": URL, "other": "x"})
    async with service.nothing_written():
        again = await set_all(service, {"beta_mode": "true", "jwt_secret": JWT, "oi_top_api_url": URL, "other": "x"})
    assert again == entries


async def test_every_wrong_value_is_named_and_nothing_is_set(service: RunningService) -> None:
    values = {"beta_mode": "true", "max_drawdown": "lots", "jwt_secret": WORD, "btc_eth_leverage": "126"}
    async with service.nothing_written():
        refusal = await refused(set_all(service, values), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert refusal.violations == {
        "settings[1].value": "max_drawdown: expected a number from 0 to 100, such as 20.0",
        "settings[2].value": "jwt_secret: expected at least 32 bytes, as from: openssl rand -base64 48",
        "settings[3].value": "btc_eth_leverage: expected an integer from 1 to 125",
    }
    assert_hidden(refusal)


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        (pb.ConfigSetting(key="other"), "settings[0].value"),
        (pb.ConfigSetting(value="x"), "settings[0].key"),
        (pb.ConfigSetting(key="a\0b", value="x"), "settings[0].key"),
        (pb.ConfigSetting(key="other", value="a\0b"), "settings[0].value"),
        (pb.ConfigSetting(key="other", value="x" * 65537), "settings[0].value"),
    ],
)
async def test_a_malformed_setting_is_refused(service: RunningService, setting: pb.ConfigSetting, field: str) -> None:
    call = client_of(service, "admin").SetSystemConfig(pb.SetSystemConfigRequest(settings=[setting]))
    async with service.nothing_written():
        refusal = await refused(call, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert list(refusal.violations) == [field]


async def test_a_key_given_twice_is_refused(service: RunningService) -> None:
    settings = [pb.ConfigSetting(key="other", value=value) for value in "12"]
    call = client_of(service, "admin").SetSystemConfig(pb.SetSystemConfigRequest(settings=settings))
    async with service.nothing_written():
        refusal = await refused(call, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert refusal.violations == {"settings[1].key": "'other' is given twice"}


async def test_a_stale_etag_stops_all_of_it(service: RunningService, clock: FakeClock) -> None:
    first = await get(service, "max_drawdown")
    clock.advance(seconds=1)
    (second,) = await set_all(service, {"max_drawdown": "30"}, max_drawdown=first.etag)
    async with service.nothing_written():
        stale = set_all(service, {"beta_mode": "true", "max_drawdown": "40"}, max_drawdown=first.etag)
        refusal = await refused(stale, Code.ABORTED, "ETAG_MISMATCH")
    assert refusal.metadata == {"kind": "configuration entry", "id": "max_drawdown"}
    await set_all(service, {"beta_mode": "true", "max_drawdown": "40"}, max_drawdown=second.etag)


async def test_an_etag_of_an_entry_that_is_not_stored_does_not_fit(service: RunningService) -> None:
    async with service.nothing_written():
        await refused(set_all(service, {"new": "x"}, new="1.2"), Code.ABORTED, "ETAG_MISMATCH")


# ---- who may


@pytest.mark.parametrize("role", ["gateway", "engine", "viewer"])
async def test_only_admins_set(service: RunningService, role: str) -> None:
    async with service.nothing_written():
        await refused(set_all(service, {"other": "x"}, role=role), Code.PERMISSION_DENIED, "PERMISSION_DENIED")
        import_call = client_of(service, role).ImportConfigFile(pb.ImportConfigFileRequest(content=b"{}"))
        await refused(import_call, Code.PERMISSION_DENIED, "PERMISSION_DENIED")


@pytest.mark.parametrize("role", ["engine", "viewer"])
async def test_engines_and_viewers_reveal_nothing(service: RunningService, role: str) -> None:
    await refused(reveal(service.client(role), "jwt_secret"), Code.PERMISSION_DENIED, "PERMISSION_DENIED")


async def test_a_token_for_one_user_sees_the_public_part_only(service: RunningService) -> None:
    await service.add_users("alice")
    for role in ("admin", "gateway"):
        stub = service.client(token=await service.make_token(role, "alice", reveal_system=True)).system_config
        await stub.GetPublicConfig(pb.GetPublicConfigRequest())
        for call in (
            stub.GetSystemConfig(pb.GetSystemConfigRequest(key="beta_mode")),
            stub.ListSystemConfig(pb.ListSystemConfigRequest()),
            stub.AccessSystemSecret(pb.AccessSystemSecretRequest(key="jwt_secret")),
        ):
            await refused(call, Code.PERMISSION_DENIED, "PERMISSION_DENIED")


async def test_nobody_without_a_credential(service: RunningService) -> None:
    call = service.anonymous().system_config.GetPublicConfig(pb.GetPublicConfigRequest())
    await refused(call, Code.UNAUTHENTICATED, "UNAUTHENTICATED")
