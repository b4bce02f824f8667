"""Passwords and OTP secrets over a real server: given, changed and reset; those that adoption found."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import grpc
import pytest

from tests.support.clock import FakeClock
from tests.support.people import (
    NEW_PASSWORD,
    PASSWORD,
    Person,
    adopt,
    authenticate,
    challenge,
    change_password,
    complete,
    reset_otp,
    set_password,
)
from tests.support.service import RunningService, refused

Code = grpc.StatusCode
REFUSED = (Code.UNAUTHENTICATED, "LOGIN_REFUSED")


async def test_an_adopted_user_completes_the_registration_at_any_time(
    service: RunningService, clock: FakeClock
) -> None:
    chen = await adopt(service, "chen@example.cn", PASSWORD, verified=False)
    clock.advance(days=1000)
    assert (await complete(service, chen, clock.now)).can_log_in
    assert (await authenticate(service, chen.email, PASSWORD)).HasField("otp_challenge")


async def test_the_admin_of_an_adopted_database_logs_in_once_given_a_password(
    service: RunningService, clock: FakeClock
) -> None:
    admin = await adopt(service, "admin@localhost", None, otp=False)
    await refused(authenticate(service, admin.email, PASSWORD), *REFUSED)
    await set_password(service, admin.id, PASSWORD)
    assert (await authenticate(service, admin.email, PASSWORD)).user.id == admin.id
    secret = (await reset_otp(service, admin.id, "admin")).otp_secret
    assert (await authenticate(service, admin.email, PASSWORD)).HasField("otp_challenge")
    code = Person("", "", "", secret).code(clock.now)
    assert (await authenticate(service, admin.email, PASSWORD, code)).user.id == admin.id


async def test_a_changed_password_replaces_the_old_one(service: RunningService, clock: FakeClock, ann: Person) -> None:
    await change_password(service, ann.id, PASSWORD, NEW_PASSWORD, ann.code(clock.now))
    await refused(authenticate(service, ann.email, PASSWORD), *REFUSED)
    assert (await authenticate(service, ann.email, NEW_PASSWORD)).HasField("otp_challenge")


@pytest.mark.parametrize("wrong", ["password", "code", "no code", "unknown", "template"])
async def test_a_password_is_changed_by_proof_only(
    service: RunningService, clock: FakeClock, ann: Person, wrong: str
) -> None:
    code = ann.code(clock.now)
    user_id, password, given = {
        "password": (ann.id, "wrong password", code),
        "code": (ann.id, PASSWORD, ann.code(clock.now - timedelta(hours=1))),
        "no code": (ann.id, PASSWORD, None),
        "unknown": ("nobody", PASSWORD, code),
        "template": ("default", PASSWORD, None),
    }[wrong]
    async with service.nothing_written():
        await refused(change_password(service, user_id, password, NEW_PASSWORD, given), *REFUSED)
    assert await service.last_record("user_id", "outcome") == (user_id, "FAILED")


async def test_a_new_password_must_be_strong(service: RunningService, clock: FakeClock, ann: Person) -> None:
    calls: dict[str, Callable[[], Awaitable[None]]] = {
        "new_password": lambda: change_password(service, ann.id, PASSWORD, "short-7", ann.code(clock.now)),
        "password": lambda: set_password(service, ann.id, "short-7"),
    }
    async with service.nothing_written():
        for name, call in calls.items():
            refusal = await refused(call(), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
            assert list(refusal.violations) == [name] and "short-7" not in refusal.text


async def test_setting_the_password_of_nobody_finds_nobody(service: RunningService) -> None:
    refusal = await refused(set_password(service, "nobody", PASSWORD), Code.NOT_FOUND, "NOT_FOUND")
    assert refusal.text == "no user with id 'nobody'"
    await refused(reset_otp(service, "nobody", "admin"), Code.NOT_FOUND, "NOT_FOUND")


async def test_a_user_resets_the_otp_secret_by_proof(service: RunningService, clock: FakeClock, ann: Person) -> None:
    answer = await reset_otp(service, ann.id, password=PASSWORD, otp_code=ann.code(clock.now))
    assert answer.otp_secret != ann.secret and answer.otp_secret in answer.otpauth_uri
    old, new = ann.code(clock.now), Person("", "", "", answer.otp_secret).code(clock.now)
    await refused(authenticate(service, ann.email, PASSWORD, old), *REFUSED)
    assert (await authenticate(service, ann.email, PASSWORD, new)).user.id == ann.id


@pytest.mark.parametrize("proof", ["password", "code", "wrong password", "wrong code"])
async def test_half_a_proof_resets_nothing(service: RunningService, clock: FakeClock, ann: Person, proof: str) -> None:
    code, wrong_code = ann.code(clock.now), ann.code(clock.now - timedelta(hours=1))
    fields = {
        "password": {"password": PASSWORD},
        "code": {"otp_code": code},
        "wrong password": {"password": "wrong password", "otp_code": code},
        "wrong code": {"password": PASSWORD, "otp_code": wrong_code},
    }[proof]
    async with service.nothing_written():
        for role in ("gateway", "admin"):
            await refused(reset_otp(service, ann.id, role, **fields), *REFUSED)


async def test_without_proof_only_an_admin_resets_otp(service: RunningService, clock: FakeClock, ann: Person) -> None:
    async with service.nothing_written():
        refusal = await refused(reset_otp(service, ann.id), Code.PERMISSION_DENIED, "PERMISSION_DENIED")
    assert refusal.text == "ResetOtp without password and code needs the permission ADMIN"
    assert await service.last_record("user_id", "outcome") == (ann.id, "DENIED")
    secret = (await reset_otp(service, ann.id, "admin")).otp_secret
    code = Person("", "", "", secret).code(clock.now)
    assert (await authenticate(service, ann.email, PASSWORD, code)).user.id == ann.id


async def test_an_unreadable_otp_secret_is_told_after_the_right_password_only(
    service: RunningService, clock: FakeClock, ann: Person
) -> None:
    bob = await adopt(service, "bob@example.org", PASSWORD)
    await service.execute(
        "UPDATE users SET otp_secret = (SELECT otp_secret FROM users WHERE id = ?) WHERE id = ?", ann.id, bob.id
    )
    await refused(authenticate(service, bob.email, "wrong password", "123456"), *REFUSED)
    attempt = authenticate(service, bob.email, PASSWORD, ann.code(clock.now))
    await refused(attempt, Code.DATA_LOSS, "SECRET_UNREADABLE")
    assert await service.last_record("user_id", "outcome", "reason") == (bob.id, "FAILED", "SECRET_UNREADABLE")


async def test_nothing_that_was_typed_in_is_kept(service: RunningService, clock: FakeClock, ann: Person) -> None:
    token = await challenge(service, ann)
    secret = (
        await reset_otp(service, ann.id, password=PASSWORD, otp_code=ann.code(clock.now), request_id="r")
    ).otp_secret
    await refused(authenticate(service, ann.email, "a wrong password", "987654", request_id="s"), *REFUSED)
    await set_password(service, ann.id, NEW_PASSWORD)
    stored = repr(await service.contents()) + repr(await service.rows("SELECT * FROM audit_log"))
    for typed in (PASSWORD, NEW_PASSWORD, "a wrong password", "987654", ann.secret, secret, token):
        assert typed not in stored
