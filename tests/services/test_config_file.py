"""The import of NOFX's config.json, by itself and over a real server."""

import json
import threading
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nofx_grpc.errors import InvalidArgument
from nofx_grpc.services import config_file
from nofx_grpc.v1 import system_config_pb2 as pb
from tests.support.service import RunningService, refused

Code = grpc.StatusCode

# Test data, not a secret: a word that no other text holds, so that a leak can be found.
WORD = "plaintext-4f0c77"

# A config.json with everything that NOFX knows.
FILE: dict[str, Any] = {
    "beta_mode": True,
    "registration_enabled": False,
    "leverage": {"btc_eth_leverage": 10, "altcoin_leverage": 3},
    "use_default_coins": False,
    "default_coins": ["BTCUSDT", "sol"],
    "api_server_port": 9090,
    "max_daily_loss": 12.5,
    "max_drawdown": 30,
    "stop_trading_minutes": 90,
    "jwt_secret": f"{WORD}-{'j' * 40}",
    "coin_pool_api_url": f"https://h/coins?auth={WORD}",
    "log": {"level": "info"},
}


async def send(service: RunningService, content: Any, role: str = "admin") -> pb.ImportConfigFileResponse:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return await service.client(role).system_config.ImportConfigFile(pb.ImportConfigFileRequest(content=raw))


async def test_a_file_is_read_off_the_event_loop(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    parse, threads = config_file.parse, []

    def noted(content: bytes) -> config_file.ConfigFile:
        threads.append(threading.current_thread())
        return parse(content)

    monkeypatch.setattr(config_file, "parse", noted)
    await send(service, {})
    assert len(threads) == 1 and threads[0] is not threading.main_thread()


async def test_a_file_is_taken_as_nofx_takes_it(service: RunningService) -> None:
    answer = await send(service, FILE)
    assert {entry.key: entry.value for entry in answer.entries} == {
        "altcoin_leverage": "3",
        "api_server_port": "9090",
        "beta_mode": "true",
        "btc_eth_leverage": "10",
        "coin_pool_api_url": "",
        "default_coins": '["BTCUSDT","SOLUSDT"]',
        "jwt_secret": "",
        "max_daily_loss": "12.5",
        "max_drawdown": "30.0",
        "stop_trading_minutes": "90",
        "use_default_coins": "false",
    }
    assert {entry.revision for entry in answer.entries} == {await service.revision()}
    assert {ignored.key: ignored.reason for ignored in answer.ignored} == {
        "registration_enabled": "is never taken from a file: set it with SetSystemConfig",
        "log": "is not a key that is taken from this place of the file",
    }
    assert WORD not in str(answer) and WORD not in str(await service.contents())
    secret = await service.client("gateway").system_config.AccessSystemSecret(
        pb.AccessSystemSecretRequest(key="jwt_secret")
    )
    assert secret.value == FILE["jwt_secret"]


async def test_the_same_file_again_changes_nothing(service: RunningService) -> None:
    await send(service, FILE)
    async with service.nothing_written():
        assert not (await send(service, FILE)).entries


async def test_what_is_not_in_the_file_stays(service: RunningService) -> None:
    await send(service, FILE)
    answer = await send(service, {"leverage": {"altcoin_leverage": 7}})
    assert [(entry.key, entry.value) for entry in answer.entries] == [("altcoin_leverage", "7")]


@pytest.mark.parametrize("content", [b"", b" \n", b"{}", b"\xef\xbb\xbf{}", b'{"leverage": null}', b'{"leverage": {}}'])
async def test_an_empty_file_changes_nothing(service: RunningService, content: bytes) -> None:
    async with service.nothing_written():
        assert not (await send(service, content)).entries


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"jwt_secret": ""}, "is empty: what is stored stays"),
        (
            {"jwt_secret": "your-jwt-secret-key-change-in-production-make-it-long-and-random"},
            "has been published by NOFX",
        ),
        ({"default_coins": []}, "is empty: what is stored stays"),
        ({"max_drawdown": None}, "is empty: what is stored stays"),
        ({"btc_eth_leverage": 9}, "is not a key that is taken from this place of the file"),
        ({"leverage": {"beta_mode": True}}, "is not a key that is taken from this place of the file"),
    ],
)
async def test_what_nofx_does_not_take_is_reported(service: RunningService, content: Any, reason: str) -> None:
    async with service.nothing_written():
        answer = await send(service, content)
    assert len(answer.ignored) == 1 and answer.ignored[0].reason.startswith(reason) and not answer.entries


@pytest.mark.parametrize(
    ("content", "field", "description"),
    [
        (b"{", "content", "is not JSON: Expecting property name enclosed in double quotes at line 1, column 2"),
        (b'{"max_drawdown": NaN}', "content", "is not JSON that can be read: a number or its depth is too large"),
        (b"[" * 100_000, "content", "is not JSON that can be read: a number or its depth is too large"),
        (b'{"max_drawdown": ' + b"9" * 5000 + b"}", "content", "is not JSON that can be read"),
        (b"{\xff}", "content", "is not UTF-8 at byte 1"),
        (b"[]", "content", "expected a JSON object, as NOFX's config.json"),
        ({"leverage": 5}, "content.leverage", "expected an object with btc_eth_leverage and altcoin_leverage"),
        (
            {"leverage": {"altcoin_leverage": 0}},
            "content.leverage.altcoin_leverage",
            "expected an integer from 1 to 125",
        ),
        ({"leverage": {"altcoin_leverage": "5"}}, "content.leverage.altcoin_leverage", "expected an integer"),
        ({"api_server_port": 80.5}, "content.api_server_port", "expected an integer"),
        ({"api_server_port": True}, "content.api_server_port", "expected an integer"),
        ({"beta_mode": "true"}, "content.beta_mode", "expected true or false"),
        ({"beta_mode": 1}, "content.beta_mode", "expected true or false"),
        ({"max_drawdown": "20"}, "content.max_drawdown", "expected a number"),
        ({"max_drawdown": -1}, "content.max_drawdown", "expected a number from 0 to 100, such as 20.0"),
        ({"default_coins": "BTC"}, "content.default_coins", "expected an array of strings"),
        ({"default_coins": [["BTC"]]}, "content.default_coins", "expected a JSON array of at most 1000 symbols"),
        ({"jwt_secret": 5}, "content.jwt_secret", "expected a string"),
        ({"jwt_secret": WORD}, "content.jwt_secret", "expected at least 32 bytes"),
        ({"jwt_secret": WORD * 9 + "\ud800"}, "content.jwt_secret", "holds a character that cannot be stored"),
        ({"coin_pool_api_url": WORD}, "content.coin_pool_api_url", "expected an http or https URL"),
    ],
)
async def test_a_wrong_file_is_refused_by_path_and_nothing_is_taken(
    service: RunningService, content: Any, field: str, description: str
) -> None:
    if isinstance(content, dict):
        content = {"use_default_coins": False, **content}
    async with service.nothing_written():
        refusal = await refused(send(service, content), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert list(refusal.violations) == [field] and refusal.violations[field].startswith(description)
    assert WORD not in str(refusal)


async def test_every_wrong_value_is_named(service: RunningService) -> None:
    refusal = await refused(
        send(service, {"beta_mode": 1, "max_drawdown": 101}), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT"
    )
    assert list(refusal.violations) == ["content.beta_mode", "content.max_drawdown"]


async def test_of_very_many_unknown_keys_the_first_are_reported(service: RunningService) -> None:
    answer = await send(service, {f"\ud800{number}" + "k" * 1000: 1 for number in range(500)})
    assert len(answer.ignored) == 101 and answer.ignored[100].reason == "and 400 more keys that were not taken"
    assert all(len(ignored.key) <= 128 for ignored in answer.ignored)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.sampled_from(sorted(FILE)) | st.text(), children),
)


@given(content=st.binary() | st.builds(lambda value: json.dumps(value).encode(), JSON))
def test_any_file_is_taken_or_refused_politely(content: bytes) -> None:
    try:
        config_file.parse(content)
    except InvalidArgument as error:
        assert all(violation.field.startswith("content") for violation in error.violations)
