"""Registration over a real server: begun with a beta code where one is needed, completed by a first one-time code."""

import asyncio
import hmac
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import grpc
import pytest

from nofx_grpc.store import accounts
from nofx_grpc.v1 import system_config_pb2
from nofx_grpc.v1 import users_pb2 as pb
from tests.support.clock import FakeClock
from tests.support.people import PASSWORD, authenticate, complete, register
from tests.support.service import RunningService, refused

Code = grpc.StatusCode


async def configure(service: RunningService, key: str, value: str) -> None:
    setting = system_config_pb2.ConfigSetting(key=key, value=value)
    await service.client().system_config.SetSystemConfig(system_config_pb2.SetSystemConfigRequest(settings=[setting]))


def code_of_empty_secret(at: datetime) -> str:
    """RFC 4226 by hand, because pyotp refuses so short a secret."""
    digest = hmac.digest(b"", (int(at.timestamp()) // 30).to_bytes(8, "big"), "sha1")
    start = digest[-1] & 0x0F
    return f"{(int.from_bytes(digest[start : start + 4], 'big') & 0x7FFFFFFF) % 1_000_000:06}"


async def codes(service: RunningService) -> list[tuple[object, ...]]:
    return await service.rows("SELECT code, used, used_by FROM beta_codes ORDER BY code")


@pytest.fixture
async def beta(service: RunningService) -> AsyncIterator[RunningService]:
    """A service in beta mode with two codes."""
    await configure(service, "beta_mode", "true")
    for code in ("B-1", "B-2"):
        await service.execute("INSERT INTO beta_codes (code, revision) VALUES (?, 1)", code)
    yield service


async def test_a_registered_user_logs_in_once_the_first_code_is_given(
    service: RunningService, clock: FakeClock
) -> None:
    ann = await register(service)
    await refused(authenticate(service, ann.email, PASSWORD), Code.UNAUTHENTICATED, "LOGIN_REFUSED")
    user = await complete(service, ann, clock.now)
    assert user.can_log_in and user.otp_verified and user.email == ann.email
    clock.advance(seconds=30)
    assert (await authenticate(service, ann.email, PASSWORD, ann.code(clock.now))).user == user


async def test_a_registration_answers_the_secret_as_a_uri_too_and_when_it_expires(
    service: RunningService, clock: FakeClock
) -> None:
    request = pb.RegisterUserRequest(email="ann@example.com", password=PASSWORD)
    answer = await service.client("gateway").users.RegisterUser(request)
    assert not (answer.user.can_log_in or answer.user.otp_verified) and answer.user.password_set
    uri = urlsplit(answer.otpauth_uri)
    assert (uri.scheme, uri.netloc, uri.path) == ("otpauth", "totp", "/NOFX:ann%40example.com")
    assert parse_qs(uri.query)["secret"] == [answer.otp_secret]
    assert answer.expire_time.ToDatetime(UTC) == clock.now + timedelta(hours=24)


async def test_what_is_stored_is_a_hash_and_a_sealed_secret(service: RunningService) -> None:
    ann = await register(service, request_id="r-1")
    ((hash, sealed),) = await service.rows("SELECT password_hash, otp_secret FROM users WHERE id = ?", ann.id)
    assert hash.startswith("$argon2id$") and sealed.startswith("nofx1:")
    everything = repr(await service.contents()) + repr(await service.rows("SELECT * FROM audit_log"))
    assert PASSWORD not in everything and ann.secret not in everything


async def test_the_code_that_completed_a_registration_logs_nobody_in(service: RunningService, clock: FakeClock) -> None:
    ann = await register(service)
    await complete(service, ann, clock.now)
    attempt = authenticate(service, ann.email, PASSWORD, ann.code(clock.now))
    await refused(attempt, Code.UNAUTHENTICATED, "LOGIN_REFUSED")


async def test_a_wrong_code_completes_nothing(service: RunningService, clock: FakeClock) -> None:
    ann = await register(service)
    async with service.nothing_written():
        await refused(complete(service, ann, clock.now - timedelta(hours=1)), Code.UNAUTHENTICATED, "LOGIN_REFUSED")
    record = await service.last_record("user_id", "outcome", "reason")
    assert record == (ann.id, "FAILED", "LOGIN_REFUSED")
    assert (await complete(service, ann, clock.now)).can_log_in


async def test_a_registration_is_completed_once(service: RunningService, clock: FakeClock) -> None:
    ann = await register(service)
    await complete(service, ann, clock.now)
    clock.advance(seconds=30)
    refusal = await refused(complete(service, ann, clock.now), Code.FAILED_PRECONDITION, "FAILED_PRECONDITION")
    assert refusal.text == f"the registration of the user {ann.id!r} is complete already"


async def test_nobody_completes_a_registration_without_a_secret(service: RunningService, clock: FakeClock) -> None:
    """Anybody could compute the codes of an empty secret."""
    await service.add_users("bob")
    for user_id in ("bob", "default"):
        request = pb.CompleteRegistrationRequest(user_id=user_id, otp_code=code_of_empty_secret(clock.now))
        call = service.client("gateway").users.CompleteRegistration(request)
        await refused(call, Code.UNAUTHENTICATED, "LOGIN_REFUSED")


async def test_an_unknown_registration_is_not_found(service: RunningService) -> None:
    request = pb.CompleteRegistrationRequest(user_id="nobody", otp_code="123456")
    call = service.client("gateway").users.CompleteRegistration(request)
    await refused(call, Code.NOT_FOUND, "NOT_FOUND")


async def test_a_repeated_registration_gets_the_first_answer(service: RunningService) -> None:
    assert await register(service, request_id="r-1") == await register(service, request_id="r-1")
    assert await service.rows("SELECT count(*) FROM users") == [(2,)]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"password": "short-7"}, "password"),
        ({"password": "nul\0nul-nul"}, "password"),
        ({"email": "nobody"}, "email"),
        ({"email": "x" * 320 + "@y"}, "email"),
    ],
)
async def test_a_bad_email_or_password_is_refused_without_being_told(
    service: RunningService, fields: dict[str, str], field: str
) -> None:
    async with service.nothing_written():
        call = register(service, **({"email": "ann@example.com"} | fields))
        refusal = await refused(call, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert list(refusal.violations) == [field]
    assert fields[field] not in refusal.text


async def test_registration_can_be_closed(service: RunningService) -> None:
    await configure(service, "registration_enabled", "false")
    async with service.nothing_written():
        refusal = await refused(register(service), Code.FAILED_PRECONDITION, "REGISTRATION_CLOSED")
    assert refusal.text == "registration is closed: registration_enabled is false in the system configuration"


async def test_without_stored_settings_registration_is_open_and_needs_no_code(service: RunningService) -> None:
    await service.execute("DELETE FROM system_config")
    assert (await register(service)).id


async def test_an_email_is_taken_whatever_its_case(service: RunningService) -> None:
    await register(service)
    async with service.nothing_written():
        refusal = await refused(register(service, "ANN@example.com"), Code.ALREADY_EXISTS, "ALREADY_EXISTS")
    assert refusal.text == "a user with email 'ANN@example.com' already exists"


async def test_in_beta_mode_a_registration_spends_a_code(beta: RunningService) -> None:
    await register(beta, beta_code="B-1")
    assert await codes(beta) == [("B-1", 1, "ann@example.com"), ("B-2", 0, "")]


@pytest.mark.parametrize("code", ["", "B-0", "B-1"])
async def test_in_beta_mode_nobody_registers_without_a_good_code(beta: RunningService, code: str) -> None:
    await register(beta, beta_code="B-1")
    async with beta.nothing_written():
        call = register(beta, "bob@example.com", beta_code=code)
        refusal = await refused(call, Code.FAILED_PRECONDITION, "BETA_CODE_INVALID")
        # Not even whether an e-mail is taken is told to whoever has no code.
        await refused(register(beta, beta_code=code), Code.FAILED_PRECONDITION, "BETA_CODE_INVALID")
    assert refusal.text == "the beta code is unknown or was already used"


async def test_a_registration_that_fails_spends_no_code(beta: RunningService) -> None:
    await register(beta, beta_code="B-1")
    await refused(register(beta, beta_code="B-2"), Code.ALREADY_EXISTS, "ALREADY_EXISTS")
    assert await codes(beta) == [("B-1", 1, "ann@example.com"), ("B-2", 0, "")]


async def test_outside_beta_mode_a_code_is_not_spent(beta: RunningService) -> None:
    await configure(beta, "beta_mode", "false")
    await register(beta, beta_code="B-1")
    assert ("B-1", 0, "") in await codes(beta)


async def test_of_registrations_with_one_code_one_succeeds(beta: RunningService) -> None:
    calls = [register(beta, f"user{number}@example.com", beta_code="B-1") for number in range(10)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 1
    assert {o.code() for o in outcomes if isinstance(o, grpc.aio.AioRpcError)} == {Code.FAILED_PRECONDITION}
    ((email,),) = await beta.rows("SELECT email FROM users WHERE id <> 'default'")
    assert ("B-1", 1, email) in await codes(beta)


async def test_of_registrations_with_one_email_one_succeeds(service: RunningService) -> None:
    emails = ("ann@example.com", "ANN@example.com", "Ann@Example.Com", "ann@EXAMPLE.com")
    outcomes = await asyncio.gather(*(register(service, email) for email in emails), return_exceptions=True)
    assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 1
    assert {o.code() for o in outcomes if isinstance(o, grpc.aio.AioRpcError)} == {Code.ALREADY_EXISTS}


async def test_an_expired_registration_cannot_be_completed(service: RunningService, clock: FakeClock) -> None:
    ann = await register(service)
    clock.advance(hours=24)
    await refused(complete(service, ann, clock.now), Code.NOT_FOUND, "NOT_FOUND")


async def test_an_expired_registration_keeps_nobody_from_its_email_or_its_code(
    beta: RunningService, clock: FakeClock
) -> None:
    first = await register(beta, beta_code="B-1")
    await refused(register(beta, beta_code="B-2"), Code.ALREADY_EXISTS, "ALREADY_EXISTS")
    clock.advance(hours=24)
    second = await register(beta, "Ann@example.com", beta_code="B-1")
    assert await beta.rows("SELECT id FROM users WHERE id <> 'default'") == [(second.id,)]
    assert ("B-1", 1, "Ann@example.com") in await codes(beta)
    assert (await complete(beta, second, clock.now)).can_log_in
    assert first.id != second.id


async def test_housekeeping_removes_what_was_not_completed_in_time(beta: RunningService, clock: FakeClock) -> None:
    await register(beta, beta_code="B-1")
    bob = await register(beta, "bob@example.com", beta_code="B-2")
    await complete(beta, bob, clock.now)
    await beta.add_users("adopted")  # with otp_verified 0, but no time by which to complete
    clock.advance(hours=23, minutes=59)
    assert (await beta.app.db.write(accounts.remove_expired)).value == 0
    clock.advance(minutes=1)
    assert (await beta.app.db.write(accounts.remove_expired)).value == 1
    assert await codes(beta) == [("B-1", 0, ""), ("B-2", 1, "bob@example.com")]
    left = await beta.rows("SELECT id FROM users ORDER BY id")
    assert {id for (id,) in left} == {bob.id, "adopted", "default"}
    principal, resources = await beta.last_record("principal", "resources")
    assert principal == "system" and "delete user" in resources and "update beta code" in resources


async def test_a_code_that_was_spent_anew_is_not_freed_for_the_first_registration(
    beta: RunningService, clock: FakeClock
) -> None:
    await register(beta, beta_code="B-1")
    clock.advance(hours=1)
    await beta.execute("UPDATE beta_codes SET used_by = 'eve', used_at = '2030-01-01 00:00:00' WHERE code = 'B-1'")
    clock.advance(hours=24)
    await beta.app.db.write(accounts.remove_expired)
    assert ("B-1", 1, "eve") in await codes(beta)
