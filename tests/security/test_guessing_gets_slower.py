"""Whoever fails again and again to log in waits longer and longer, in every server, and learns nothing by it.

Longer than 300 lines: it is one list of attacks, on the same few helpers.
"""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from nofx_grpc.crypto import passwords
from nofx_grpc.errors import LoginRefused, RateLimited
from nofx_grpc.rpc.interceptor import ANONYMOUS
from nofx_grpc.services.backoff import BackoffOptions
from nofx_grpc.services.call import Call
from nofx_grpc.services.logins import LoginOptions, Logins, account_of_email
from nofx_grpc.store import known_callers
from nofx_grpc.store.engine import Connection
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
    verify_otp,
)
from tests.support.processes import environment, serving
from tests.support.service import Client, RunningService, refusal_of, refused, running_service

Code = grpc.StatusCode
REFUSED = (Code.UNAUTHENTICATED, "LOGIN_REFUSED")
LIMITED = (Code.RESOURCE_EXHAUSTED, "RATE_LIMITED")
FREE = 5
HOUR = timedelta(hours=1)


async def try_from(
    service: RunningService, address: str, email: str, password: str, code: str | None = None, role: str = "gateway"
) -> pb.AuthenticateResponse:
    client = service.client(role, **{"nofx-end-user-address": address})
    try:
        return await client.users.Authenticate(pb.AuthenticateRequest(email=email, password=password, otp_code=code))
    finally:
        await client.close()


async def waiting(call: Awaitable[Any]) -> float:
    """Await a call that comes too soon; the seconds that it is told to wait."""
    refusal = await refused(call, *LIMITED)
    assert refusal.text == "too many failed logins" and refusal.metadata == {"limit": "login_backoff"}
    assert refusal.retry_seconds is not None
    return refusal.retry_seconds


def count_hashes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each hash that is checked from now on."""
    verify, hashed = passwords.verify, []

    def counted(hash: str, password: str) -> bool:
        hashed.append(hash)
        return verify(hash, password)

    monkeypatch.setattr(passwords, "verify", counted)
    return hashed


@pytest.mark.parametrize("email", ["ann@example.com", "eve@example.com", "default@localhost"])
async def test_the_wait_doubles_up_to_the_longest_whether_or_not_there_is_such_an_account(
    service: RunningService, clock: FakeClock, ann: Person, email: str
) -> None:
    for _ in range(FREE):
        await refused(authenticate(service, email, "wrong password"), *REFUSED)
    waits = []
    for _ in range(11):
        await refused(authenticate(service, email, "wrong password"), *REFUSED)
        waits.append(await waiting(authenticate(service, email, PASSWORD)))
        clock.advance(seconds=waits[-1])
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


async def test_a_clock_that_is_set_back_locks_nobody_out_for_longer(
    service: RunningService, clock: FakeClock, ann: Person
) -> None:
    wait = 0.0
    for _ in range(FREE):
        await refused(authenticate(service, ann.email, "wrong password"), *REFUSED)
    while wait < 300:
        await refused(authenticate(service, ann.email, "wrong password"), *REFUSED)
        wait = await waiting(authenticate(service, ann.email, PASSWORD))
        clock.advance(seconds=wait)
    await refused(authenticate(service, ann.email, "wrong password"), *REFUSED)
    clock.advance(hours=-10)
    await refused(authenticate(service, ann.email, "wrong password"), *REFUSED)
    assert await waiting(authenticate(service, ann.email, PASSWORD)) == 300, "and nobody guesses any faster for it"
    clock.advance(seconds=300)
    assert (await authenticate(service, ann.email, PASSWORD)).HasField("otp_challenge")


async def test_a_refusal_while_it_waits_does_not_make_the_wait_longer(
    service: RunningService, clock: FakeClock, ann: Person
) -> None:
    for _ in range(FREE + 3):
        await refused(authenticate(service, ann.email, "wrong password"), *REFUSED)
        clock.advance(seconds=4)
    await refused(authenticate(service, ann.email, "wrong password"), *REFUSED)
    assert [await waiting(authenticate(service, ann.email, PASSWORD)) for _ in range(20)] == [8.0] * 20
    clock.advance(seconds=8)
    assert (await authenticate(service, ann.email, PASSWORD, ann.code(clock.now))).user.id == ann.id


async def test_every_way_to_guess_at_an_account_counts(service: RunningService, clock: FakeClock, ann: Person) -> None:
    token = await challenge(service, ann)
    ways: list[Callable[[], Awaitable[Any]]] = [
        lambda: authenticate(service, ann.email.upper(), "wrong password"),
        lambda: verify_otp(service, token, ann.code(clock.now - HOUR)),
        lambda: change_password(service, ann.id, "wrong password", NEW_PASSWORD),
        lambda: reset_otp(service, ann.id, password="wrong password"),
        lambda: authenticate(service, ann.email, PASSWORD, ann.code(clock.now - HOUR)),
        lambda: authenticate(service, ann.email, "wrong password"),
    ]
    for way in ways:
        await refused(way(), *REFUSED)
    for way in ways:
        assert await waiting(way()) == 1
    assert await waiting(authenticate(service, ann.email, PASSWORD, ann.code(clock.now))) == 1, "the right one, too"


async def test_the_first_code_of_a_registration_is_not_guessed(service: RunningService, clock: FakeClock) -> None:
    person = await register(service)
    for _ in range(FREE + 1):
        await refused(complete(service, person, clock.now - HOUR), *REFUSED)
    assert await waiting(complete(service, person, clock.now)) == 1
    clock.advance(seconds=1)
    assert (await complete(service, person, clock.now)).can_log_in


async def test_who_has_the_password_cannot_guess_codes(service: RunningService, clock: FakeClock, ann: Person) -> None:
    """A right password without a code counts for nothing, and forgives nothing."""
    token = ""
    for _ in range(FREE + 1):
        token = await challenge(service, ann)
        await refused(verify_otp(service, token, ann.code(clock.now - HOUR)), *REFUSED)
    await waiting(authenticate(service, ann.email, PASSWORD))
    await waiting(verify_otp(service, token, ann.code(clock.now)))


async def test_a_login_forgives_what_failed_before(service: RunningService, clock: FakeClock, ann: Person) -> None:
    for _ in range(3):
        for _ in range(FREE - 1):
            await refused(authenticate(service, ann.email, "wrong password"), *REFUSED)
        await authenticate(service, ann.email, PASSWORD, ann.code(clock.now))
        clock.advance(seconds=30)


async def test_tries_are_forgotten_in_time(service: RunningService, clock: FakeClock, ann: Person) -> None:
    for _ in range(FREE):
        await refused(authenticate(service, ann.email, "wrong password"), *REFUSED)
    clock.advance(minutes=15 * FREE)
    for _ in range(FREE):
        await refused(authenticate(service, ann.email, "wrong password"), *REFUSED)
    await service.app.housekeeping.sweep()
    assert await service.rows("SELECT count(*) FROM login_tries") != [(0,)], "what counts is kept"
    clock.advance(days=31)
    await service.app.housekeeping.sweep()
    assert await service.rows("SELECT count(*) FROM login_tries") == [(0,)]
    assert await service.rows("SELECT count(*) FROM known_callers") == [(0,)]


async def test_of_many_at_one_moment_none_slips_through(
    service: RunningService, clock: FakeClock, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = count_hashes(monkeypatch)
    tries = (authenticate(service, ann.email, f"wrong password {number}") for number in range(40))
    reasons = reasons_of(await asyncio.gather(*tries, return_exceptions=True))
    assert (reasons.count("LOGIN_REFUSED"), reasons.count("RATE_LIMITED")) == (FREE + 1, 40 - FREE - 1)
    assert len(hashed) == FREE + 1, "whoever waits costs no hash"


@pytest.mark.parametrize("who", ["unknown", "wrong password", "wrong code", "template", "unfinished", "admin"])
async def test_every_refusal_costs_one_hash(
    service: RunningService, clock: FakeClock, ann: Person, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    await register(service, "bob@example.com")
    await adopt(service, "admin@localhost", None, otp=False)
    email, password, code = {
        "unknown": ("eve@example.com", PASSWORD, None),
        "wrong password": (ann.email, "wrong password", None),
        "wrong code": (ann.email, PASSWORD, ann.code(clock.now - HOUR)),
        "template": ("default@localhost", PASSWORD, None),
        "unfinished": ("bob@example.com", PASSWORD, None),
        "admin": ("admin@localhost", PASSWORD, None),
    }[who]
    hashed = count_hashes(monkeypatch)
    await refused(authenticate(service, email, password, code), *REFUSED)
    assert len(hashed) == 1


async def test_a_refusal_to_let_somebody_try_leaves_at_the_floor_too(service: RunningService) -> None:
    naps: list[float] = []

    async def sleep(seconds: float) -> None:
        naps.append(seconds)

    options = LoginOptions(floor_seconds=0.5, monotonic=lambda: 7.0, sleep=sleep, backoff=BackoffOptions(of_one=1))
    logins = Logins(service.app.envelope, options)
    call = Call("/test", ANONYMOUS, "ipv4:127.0.0.1:1", service.app.db, service.app.envelope, pb.User)
    for error in (LoginRefused, LoginRefused, RateLimited):
        with pytest.raises(error):
            async with logins.attempt(call, account_of_email("eve@example.com")):
                raise LoginRefused
    assert naps == [0.5] * 3


# ---- nobody is locked out by others


async def test_who_fails_elsewhere_keeps_nobody_out(service: RunningService, clock: FakeClock, ann: Person) -> None:
    """An attacker with many addresses, and the user at home, who has logged in from there before."""
    home = "198.51.100.7"
    await try_from(service, home, ann.email, PASSWORD, ann.code(clock.now))
    clock.advance(seconds=30)
    for number in range(20 + 1):
        await refused(try_from(service, f"203.0.113.{number}", ann.email, "wrong password"), *REFUSED)
    assert await waiting(try_from(service, "203.0.113.99", ann.email, "wrong password")) == 1
    assert (await try_from(service, home, ann.email, PASSWORD, ann.code(clock.now))).user.id == ann.id
    assert await waiting(try_from(service, "203.0.113.99", ann.email, "wrong password")) == 1, "not forgiven by it"
    clock.advance(seconds=1)
    assert (await try_from(service, "192.0.2.1", ann.email, PASSWORD)).HasField("otp_challenge"), "not for good"


async def test_who_tries_many_accounts_waits(service: RunningService, clock: FakeClock, ann: Person) -> None:
    for number in range(100 + 1):
        await refused(try_from(service, "203.0.113.1", f"p{number}@example.com", "wrong password"), *REFUSED)
    assert await waiting(try_from(service, "203.0.113.1", ann.email, PASSWORD)) == 1
    assert (await try_from(service, "203.0.113.2", ann.email, PASSWORD)).HasField("otp_challenge"), "others do not"


async def test_an_own_account_does_not_pay_for_guesses_at_others(
    service: RunningService, clock: FakeClock, ann: Person
) -> None:
    for number in range(100 + 1):
        if number % 10 == 0:
            clock.advance(seconds=30)
            await try_from(service, "203.0.113.1", ann.email, PASSWORD, ann.code(clock.now))
        await refused(try_from(service, "203.0.113.1", f"p{number}@example.com", "wrong password"), *REFUSED)
    failed, forgotten = 101, 11 * 30 // 6
    while (await _reason(try_from(service, "203.0.113.1", f"q{failed}@example.com", "wrong"))) == "LOGIN_REFUSED":
        failed += 1
        assert failed <= 101 + forgotten
    await waiting(try_from(service, "203.0.113.1", ann.email, PASSWORD))


async def test_a_household_of_ipv6_is_one_caller(service: RunningService, clock: FakeClock, ann: Person) -> None:
    for number in range(FREE + 1):
        await refused(try_from(service, f"2001:db8:1:2::{number:x}", ann.email, "wrong password"), *REFUSED)
    await waiting(try_from(service, "2001:db8:1:2:ffff::1", ann.email, PASSWORD))
    assert (await try_from(service, "2001:db8:1:3::1", ann.email, PASSWORD)).HasField("otp_challenge")


@pytest.mark.parametrize("address", ["localhost", "1.2.3.4:5", "1.2.3", "[::1]", "x" * 1000])
async def test_what_is_no_address_of_an_end_user_is_told(service: RunningService, ann: Person, address: str) -> None:
    refusal = await refused(try_from(service, address, ann.email, PASSWORD), Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert list(refusal.violations) == ["nofx-end-user-address"]


# ---- everywhere, and within bounds


@pytest.mark.e2e
async def test_in_two_servers_and_after_a_restart(tmp_path: Path, database_env: dict[str, str]) -> None:
    env = environment(tmp_path / "data", login_floor_ms="0", login_wait_seconds="86400") | database_env
    request = pb.AuthenticateRequest(email="eve@example.com", password=PASSWORD)
    with serving(env, tmp_path / "log1") as one, serving(env, tmp_path / "log2") as two:
        clients = [Client(server.address, server.token("gateway")) for server in (one, two)]
        reasons: list[str] = []
        for _ in range(2):
            tries = (client.users.Authenticate(request) for client in clients for _ in range(8))
            reasons += reasons_of(await asyncio.gather(*tries, return_exceptions=True))
        assert len(reasons) == 32 and set(reasons) == {"LOGIN_REFUSED", "RATE_LIMITED"}
        assert reasons.count("LOGIN_REFUSED") <= FREE + 1 + 6, "each one after the sixth takes twice as long: a minute"
        for client in clients:
            await client.close()
    with serving(env, tmp_path / "log3") as again:
        client = Client(again.address, again.token("gateway"))
        counted = 0
        while (await _reason(client.users.Authenticate(request))) == "LOGIN_REFUSED":
            counted += 1
            assert counted < 3, "what was counted before the restart counts on"
        await client.close()


async def test_a_flood_of_names_takes_only_so_many_rows(
    service: RunningService, clock: FakeClock, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nofx_grpc.housekeeping.MOST_LOGIN_TRIES", 20)
    await authenticate(service, ann.email, PASSWORD, ann.code(clock.now))
    for number in range(30):
        await refused(authenticate(service, f"p{number}@example.com", "wrong password"), *REFUSED)
    await service.app.housekeeping.sweep()
    assert await service.rows("SELECT count(*) FROM login_tries") == [(20,)]
    assert await service.rows("SELECT count(*) FROM known_callers") == [(1,)]


async def test_those_who_are_known_leave_room_for_the_tries_of_all(
    service: RunningService, clock: FakeClock, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They last for 30 days, and tries for minutes: of both together the tries would be forgotten first."""

    def log_in(connection: Connection, number: int) -> None:
        known_callers.note(connection, str(number), timedelta(days=29, seconds=number))

    monkeypatch.setattr("nofx_grpc.housekeeping.MOST_LOGIN_TRIES", 20)
    monkeypatch.setattr("nofx_grpc.housekeeping.MOST_KNOWN_CALLERS", 20)
    monkeypatch.setattr("nofx_grpc.housekeeping.AT_ONCE", 3)
    for number in range(30):
        await service.app.db.write(log_in, number)
    for _ in range(FREE + 1):
        await refused(authenticate(service, ann.email, "wrong password"), *REFUSED)
    await service.app.housekeeping.sweep()
    await refused(authenticate(service, ann.email, "wrong password"), *LIMITED)
    kept = await service.rows("SELECT id FROM known_callers ORDER BY forgotten_at")
    assert kept[:-1] == [(str(number),) for number in range(11, 30)], "the latest, the last of which is Ann's own"


async def test_a_storm_is_refused_at_once_and_others_are_served(
    tmp_path: Path, database_env: dict[str, str], clock: FakeClock
) -> None:
    env = database_env | {"NOFX_GRPC_PASSWORD_HASH_QUEUE": "4", "NOFX_GRPC_LOGIN_FLOOR_MS": "10000"}
    async with running_service(tmp_path / "data", clock=clock, env=env) as service:
        tries = [asyncio.ensure_future(authenticate(service, f"p{n}@example.com", PASSWORD)) for n in range(40)]
        refusals = []
        for done in asyncio.as_completed(tries, timeout=30):
            refusals.append(await refused(done, *LIMITED))
            if len(refusals) == 10:
                break
        assert {refusal.metadata["limit"] for refusal in refusals} == {"logins_waiting"}
        assert {refusal.retry_seconds for refusal in refusals} == {1.0}
        await service.client("viewer").users.ListUsers(pb.ListUsersRequest())
        for each in tries:
            each.cancel()
        await asyncio.gather(*tries, return_exceptions=True)


async def test_what_hashes_gives_way_to_what_serves(service: RunningService) -> None:
    threads = Logins(service.app.envelope, LoginOptions())._threads
    hashing = await asyncio.get_running_loop().run_in_executor(threads, _niceness)
    assert hashing > _niceness()


def _niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


async def _reason(call: Awaitable[Any]) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refusal_of(caught.value).reason


def reasons_of(outcomes: list[Any]) -> list[str]:
    """The reasons of those outcomes that are refusals."""
    return [refusal_of(outcome).reason for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
