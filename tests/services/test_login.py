"""Logins over a real server: passwords, one-time codes, login tokens, and refusals that all look alike."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from nofx_grpc.app import utc_now
from nofx_grpc.crypto import passwords
from nofx_grpc.errors import LoginRefused
from nofx_grpc.rpc.interceptor import ANONYMOUS
from nofx_grpc.services.call import Call
from nofx_grpc.services.logins import LoginOptions, Logins, account_of_id
from nofx_grpc.v1 import users_pb2 as pb
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
    register,
    reset_otp,
    set_password,
    verify_otp,
)
from tests.support.service import RunningService, refused, running_service

Code = grpc.StatusCode
REFUSED = (Code.UNAUTHENTICATED, "LOGIN_REFUSED")


async def test_a_password_alone_is_answered_by_a_challenge(
    service: RunningService, clock: FakeClock, ann: Person
) -> None:
    answer = await authenticate(service, ann.email, ann.password)
    assert answer.WhichOneof("result") == "otp_challenge"
    assert answer.otp_challenge.expire_time.ToDatetime(UTC) == clock.now + timedelta(minutes=5)
    assert (await verify_otp(service, answer.otp_challenge.login_token, ann.code(clock.now))).id == ann.id


async def test_password_and_code_log_in_at_once_and_on_the_record(
    service: RunningService, clock: FakeClock, ann: Person
) -> None:
    answer = await authenticate(service, "ANN@example.com", ann.password, ann.code(clock.now))
    assert answer.user.id == ann.id and answer.user.can_log_in
    record = await service.last_record("principal", "user_id", "resources", "outcome")
    assert record == ("token:bootstrap-gateway", ann.id, f"log in user {ann.id}/{ann.id}", "OK")


async def test_a_login_changes_nothing_that_a_client_sees(
    service: RunningService, clock: FakeClock, ann: Person
) -> None:
    before = await service.revision(), await service.rows("SELECT updated_at FROM users WHERE id = ?", ann.id)
    await authenticate(service, ann.email, ann.password, ann.code(clock.now))
    assert before == (
        await service.revision(),
        await service.rows("SELECT updated_at FROM users WHERE id = ?", ann.id),
    )


@pytest.mark.parametrize(
    "who", ["unknown", "wrong password", "wrong code", "template", "admin", "unfinished", "no otp"]
)
async def test_every_refusal_says_the_same_and_is_on_the_record(
    service: RunningService, clock: FakeClock, ann: Person, who: str
) -> None:
    await adopt(service, "admin@localhost", None, otp=False)
    await adopt(service, "chen@example.cn", PASSWORD, verified=False)
    await adopt(service, "old@example.cn", PASSWORD, otp=False, verified=False)
    email, password, code, id = {
        "unknown": ("eve@example.com", PASSWORD, "123456", ""),
        "wrong password": (ann.email, "wrong password", ann.code(clock.now), ann.id),
        "wrong code": (ann.email, PASSWORD, ann.code(clock.now - timedelta(hours=1)), ann.id),
        "template": ("default@localhost", PASSWORD, None, "default"),
        "admin": ("admin@localhost", PASSWORD, None, "admin@localhost"),
        "unfinished": ("chen@example.cn", PASSWORD, None, "chen@example.cn"),
        "no otp": ("old@example.cn", PASSWORD, None, "old@example.cn"),
    }[who]
    async with service.nothing_written():
        refusal = await refused(authenticate(service, email, password, code), *REFUSED)
    assert refusal.text == "the e-mail, the password or the code is wrong" and not refusal.metadata
    record = await service.last_record("user_id", "resources", "outcome", "reason")
    assert record == (id, email, "FAILED", "LOGIN_REFUSED")


async def test_an_unknown_user_costs_the_work_of_a_known_one(
    service: RunningService, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify, checked = passwords.verify, []

    def noted_verify(hash: str, password: str) -> bool:
        checked.append(threading.current_thread().name)
        return verify(hash, password)

    monkeypatch.setattr(passwords, "verify", noted_verify)
    for email in (ann.email, "eve@example.com", "default@localhost"):
        await refused(authenticate(service, email, "wrong password"), *REFUSED)
    assert len(checked) == 3
    assert all(name.startswith("nofx-password") for name in checked), "hashing belongs off the event loop"


async def test_a_refusal_leaves_at_the_floor(tmp_path: Path, database_env: dict[str, str]) -> None:
    async with running_service(tmp_path / "data", env=database_env | {"NOFX_GRPC_LOGIN_FLOOR_MS": "400"}) as service:
        person = await register(service)
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: authenticate(service, "eve@example.com", PASSWORD),
            lambda: authenticate(service, person.email, PASSWORD),
            lambda: verify_otp(service, "no token", "123456"),
            lambda: change_password(service, person.id, "wrong password", NEW_PASSWORD),
            lambda: reset_otp(service, person.id, password="wrong password"),
            lambda: complete(service, person, utc_now() - timedelta(hours=1)),
        ]
        for call in calls:
            started = time.monotonic()
            await refused(call(), *REFUSED)
            assert time.monotonic() - started >= 0.4


async def test_a_refusal_that_nobody_waits_for_is_on_the_record(tmp_path: Path, database_env: dict[str, str]) -> None:
    async with running_service(tmp_path / "data", env=database_env | {"NOFX_GRPC_LOGIN_FLOOR_MS": "2000"}) as service:
        request = pb.AuthenticateRequest(email="eve@example.com", password=PASSWORD)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.client("gateway").users.Authenticate(request, timeout=0.5)
        assert caught.value.code() is Code.DEADLINE_EXCEEDED
        async with asyncio.timeout(30):
            while not await service.rows("SELECT 1 FROM audit_log"):  # noqa: ASYNC110 - what is waited for tells nobody
                await asyncio.sleep(0.05)
        assert await service.last_record("resources", "outcome") == ("eve@example.com", "FAILED")


@pytest.mark.parametrize(("took", "slept"), [(0.0, 0.5), (0.125, 0.375), (0.75, 0.25)])
async def test_a_refusal_waits_for_the_next_multiple_of_the_floor(
    service: RunningService, took: float, slept: float
) -> None:
    now, naps = [100.0], []

    async def sleep(seconds: float) -> None:
        naps.append(seconds)

    options = LoginOptions(floor_seconds=0.5, monotonic=lambda: now[0], sleep=sleep)
    logins = Logins(service.app.envelope, options)
    call = Call("/test", ANONYMOUS, "unix:", service.app.db, service.app.envelope, pb.User)
    with pytest.raises(LoginRefused):
        async with logins.attempt(call, account_of_id("ann")):
            now[0] += took
            raise LoginRefused
    async with logins.attempt(call, account_of_id("ann")):
        now[0] += took
    assert naps == [slept]


async def test_a_code_is_accepted_once(service: RunningService, clock: FakeClock, ann: Person) -> None:
    code = ann.code(clock.now)
    earlier = ann.code(clock.now - timedelta(seconds=30))
    token = await challenge(service, ann)
    await authenticate(service, ann.email, ann.password, code)
    await refused(authenticate(service, ann.email, ann.password, code), *REFUSED)
    await refused(verify_otp(service, token, code), *REFUSED)
    await refused(authenticate(service, ann.email, ann.password, earlier), *REFUSED)
    await refused(change_password(service, ann.id, ann.password, NEW_PASSWORD, code), *REFUSED)
    clock.advance(seconds=30)
    assert (await verify_otp(service, token, ann.code(clock.now))).id == ann.id


async def test_of_logins_with_one_code_one_succeeds(service: RunningService, clock: FakeClock, ann: Person) -> None:
    code = ann.code(clock.now)
    attempts = (authenticate(service, ann.email, ann.password, code) for _ in range(8))
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(outcome, pb.AuthenticateResponse) for outcome in outcomes) == 1


async def test_a_login_token_completes_one_login(service: RunningService, clock: FakeClock, ann: Person) -> None:
    token = await challenge(service, ann)
    await verify_otp(service, token, ann.code(clock.now))
    clock.advance(seconds=30)
    async with service.nothing_written():
        await refused(verify_otp(service, token, ann.code(clock.now)), *REFUSED)
    assert await service.last_record("user_id", "outcome", "reason") == (ann.id, "FAILED", "LOGIN_REFUSED")


async def test_of_twenty_who_share_a_login_token_one_logs_in(
    service: RunningService, clock: FakeClock, ann: Person
) -> None:
    token = await challenge(service, ann)
    # Three different codes count at this moment: what lets only one in is the token.
    offsets = [timedelta(seconds=30 * (number % 3 - 1)) for number in range(20)]
    attempts = (verify_otp(service, token, ann.code(clock.now + offset)) for offset in offsets)
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(outcome, pb.User) for outcome in outcomes) == 1
    assert {o.code() for o in outcomes if isinstance(o, grpc.aio.AioRpcError)} <= {
        Code.UNAUTHENTICATED,
        Code.RESOURCE_EXHAUSTED,  # as many tries at one time are too many
    }


async def test_a_wrong_code_does_not_spend_the_login_token(
    service: RunningService, clock: FakeClock, ann: Person
) -> None:
    token = await challenge(service, ann)
    await refused(verify_otp(service, token, ann.code(clock.now - timedelta(hours=1))), *REFUSED)
    assert (await verify_otp(service, token, ann.code(clock.now))).id == ann.id


async def test_a_login_token_expires(service: RunningService, clock: FakeClock, ann: Person) -> None:
    token = await challenge(service, ann)
    clock.advance(minutes=5)
    await refused(verify_otp(service, token, ann.code(clock.now)), *REFUSED)


async def test_a_login_token_does_not_outlive_its_password(
    service: RunningService, clock: FakeClock, ann: Person
) -> None:
    token = await challenge(service, ann)
    await set_password(service, ann.id, NEW_PASSWORD)
    await refused(verify_otp(service, token, ann.code(clock.now)), *REFUSED)


async def test_what_is_no_login_token_is_refused(service: RunningService, clock: FakeClock, ann: Person) -> None:
    token = await challenge(service, ann)
    await service.add_users("bob")
    page = await service.client().users.ListUsers(pb.ListUsersRequest(page_size=1))
    damaged = token[:-2] + ("A" if token[-2] != "A" else "B") + token[-1]
    for other in (damaged, token[:40], page.next_page_token, "x", "\u00e9", "%%%%"):
        await refused(verify_otp(service, other, ann.code(clock.now)), *REFUSED)
    assert (await verify_otp(service, token, ann.code(clock.now))).id == ann.id


async def test_a_repeated_request_gets_the_first_answer(service: RunningService, clock: FakeClock, ann: Person) -> None:
    token = await challenge(service, ann)
    code = ann.code(clock.now)
    first = await verify_otp(service, token, code, request_id="r-1")
    assert await verify_otp(service, token, code, request_id="r-1") == first
    clock.advance(seconds=30)
    for _ in range(2):
        await change_password(service, ann.id, PASSWORD, NEW_PASSWORD, ann.code(clock.now), request_id="r-2")


async def test_a_login_that_is_repeated_late_is_a_new_one(
    service: RunningService, clock: FakeClock, ann: Person
) -> None:
    """Else whoever has the request of a login could log in by it for a day, whatever became of the password."""
    code = ann.code(clock.now)
    first = await authenticate(service, ann.email, PASSWORD, code, request_id="r-1")
    clock.advance(minutes=4)
    assert await authenticate(service, ann.email, PASSWORD, code, request_id="r-1") == first
    clock.advance(minutes=1)
    await refused(authenticate(service, ann.email, PASSWORD, code, request_id="r-1"), *REFUSED)
    late = await authenticate(service, ann.email, PASSWORD, ann.code(clock.now), request_id="r-1")
    assert late.HasField("user")


async def test_a_hash_of_nofx_is_replaced_at_the_next_login(service: RunningService, clock: FakeClock) -> None:
    bob = await adopt(service, "bob@example.org", "bobs password")
    row = "SELECT password_hash, rewrites, revision, updated_at FROM users WHERE id = ?"
    (before,), revision = await service.rows(row, bob.id), await service.revision()
    await refused(authenticate(service, bob.email, "wrong password"), *REFUSED)
    assert await service.rows(row, bob.id) == [before]
    assert (await authenticate(service, bob.email, bob.password)).HasField("otp_challenge")
    ((hash, rewrites, *unchanged),) = await service.rows(row, bob.id)
    assert before[0].startswith("$2a$") and hash.startswith("$argon2id$")
    assert rewrites == before[1] + 1 and tuple(unchanged) == before[2:] and await service.revision() == revision
    assert (await authenticate(service, bob.email, bob.password, bob.code(clock.now))).user.id == bob.id


async def test_logins_at_one_time_survive_each_others_rehash(service: RunningService) -> None:
    bob = await adopt(service, "bob@example.org", "bobs password")
    answers = await asyncio.gather(*(authenticate(service, bob.email, bob.password) for _ in range(6)))
    assert all(answer.HasField("otp_challenge") for answer in answers)


async def test_a_password_that_is_changed_while_it_is_checked_counts_no_more(
    service: RunningService, clock: FakeClock, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify, checking, go_on = passwords.verify, threading.Event(), threading.Event()

    def slow_verify(hash: str, password: str) -> bool:
        checking.set()
        go_on.wait(5)
        return verify(hash, password)

    monkeypatch.setattr(passwords, "verify", slow_verify)
    login = asyncio.ensure_future(authenticate(service, ann.email, ann.password, ann.code(clock.now)))
    await asyncio.to_thread(checking.wait, 5)
    await set_password(service, ann.id, NEW_PASSWORD)
    go_on.set()
    await refused(login, *REFUSED)
    assert (await authenticate(service, ann.email, NEW_PASSWORD, ann.code(clock.now))).user.id == ann.id
