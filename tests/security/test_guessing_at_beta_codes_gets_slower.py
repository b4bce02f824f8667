"""Whoever tries one beta code after the other waits longer and longer, by whatever rpc; who has a good one does not."""

from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import grpc
import pytest

from nofx_grpc.errors import StoreFull
from nofx_grpc.store import login_tries
from nofx_grpc.v1 import beta_codes_pb2 as pb
from nofx_grpc.v1 import system_config_pb2
from tests.support.clock import FakeClock
from tests.support.people import PASSWORD, authenticate, create, register
from tests.support.service import RunningService, refused, running_service

FREE, OF_PRINCIPAL = 3, 30
LIMITED = (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
INVALID = (grpc.StatusCode.FAILED_PRECONDITION, "BETA_CODE_INVALID")


@pytest.fixture
async def beta(tmp_path: Path, database_env: dict[str, str], clock: FakeClock) -> AsyncIterator[RunningService]:
    """A service in beta mode, with the code GOOD; three guesses cost nothing."""
    env = database_env | {"NOFX_GRPC_LOGIN_TRIES_OF_CALLER": str(FREE), "NOFX_GRPC_LOGIN_FLOOR_MS": "0"}
    async with running_service(tmp_path / "data", clock=clock, env=env) as service:
        on = system_config_pb2.ConfigSetting(key="beta_mode", value="true")
        await service.client().system_config.SetSystemConfig(system_config_pb2.SetSystemConfigRequest(settings=[on]))
        await service.execute("INSERT INTO beta_codes (code, revision) VALUES (?, 1)", "GOOD")
        yield service


async def validate(service: RunningService, code: str, role: str = "gateway", **metadata: str) -> bool:
    client = service.client(role, **metadata)
    try:
        return (await client.beta_codes.ValidateBetaCode(pb.ValidateBetaCodeRequest(code=code))).valid
    finally:
        await client.close()


async def waiting(call: Awaitable[Any]) -> float | None:
    refusal = await refused(call, *LIMITED)
    assert refusal.text == "too many wrong beta codes" and refusal.metadata == {"limit": "beta_code_backoff"}
    return refusal.retry_seconds


async def test_every_way_to_guess_counts(beta: RunningService, clock: FakeClock) -> None:
    await create(beta)
    redeem = pb.RedeemBetaCodeRequest(user_id="ann", code="BAD")
    assert not await validate(beta, "BAD")
    await refused(beta.client("gateway").beta_codes.RedeemBetaCode(redeem), *INVALID)
    await refused(register(beta, "bob@example.com", beta_code="BAD"), *INVALID)
    assert not await validate(beta, "BAD")
    assert await waiting(validate(beta, "GOOD")) == 1
    assert await waiting(beta.client("gateway").beta_codes.RedeemBetaCode(redeem)) == 1
    assert await waiting(register(beta, "bob@example.com", beta_code="GOOD")) == 1
    clock.advance(seconds=1)
    assert (await register(beta, "bob@example.com", beta_code="GOOD")).id


async def test_what_is_committed_is_answered_though_the_guess_cannot_be_given_back(
    beta: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StoreFull

    monkeypatch.setattr(login_tries, "give_back", full)
    assert (await register(beta, "bob@example.com", beta_code="GOOD")).id


async def test_a_good_code_costs_nothing(beta: RunningService) -> None:
    for _ in range(3 * FREE):
        assert await validate(beta, "GOOD")
    await register(beta, beta_code="GOOD")


async def test_other_refusals_cost_nothing(beta: RunningService) -> None:
    await create(beta)
    for _ in range(2 * FREE):
        call = register(beta, beta_code="GOOD")  # the e-mail is taken
        await refused(call, grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS")
    assert await validate(beta, "GOOD")


async def test_others_are_not_kept_waiting(beta: RunningService) -> None:
    """Neither other end users of the gateway, nor logins."""
    for _ in range(FREE + 1):
        await validate(beta, "BAD", **{"nofx-end-user-address": "203.0.113.1"})
    await waiting(validate(beta, "GOOD", **{"nofx-end-user-address": "203.0.113.1"}))
    assert await validate(beta, "GOOD", **{"nofx-end-user-address": "203.0.113.2"})
    assert await validate(beta, "GOOD", role="viewer")
    refusal = authenticate(beta, "ann@example.com", PASSWORD)
    await refused(refusal, grpc.StatusCode.UNAUTHENTICATED, "LOGIN_REFUSED")


async def test_made_up_addresses_are_one_principal(beta: RunningService) -> None:
    for number in range(OF_PRINCIPAL + 1):
        assert not await validate(beta, "BAD", **{"nofx-end-user-address": f"203.0.113.{number}"})
    assert await waiting(validate(beta, "GOOD", **{"nofx-end-user-address": "198.51.100.1"})) == 1
