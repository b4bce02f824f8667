"""Proving who somebody is: by a password, checked off the event loop, and by a one-time code, accepted once.

Whatever is wrong, the caller learns only that the login was refused, after the same work and at the same time: an
unknown user costs a hash as well, the verdict falls in the write transaction for all of them, and the answer waits for
the floor.
"""

import asyncio
import json
import os
import secrets
import sys
import threading
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TypeVar

import structlog
from google.protobuf.message import Message

from nofx_grpc.crypto import otp, passwords
from nofx_grpc.crypto.envelope import Envelope, Location
from nofx_grpc.errors import LoginRefused, NofxError, RateLimited, SecretUnreadable
from nofx_grpc.services.backoff import Backoff, BackoffOptions, Try, too_soon
from nofx_grpc.services.call import Call
from nofx_grpc.store import audit, login_tokens, revisions, users
from nofx_grpc.store.engine import Connection
from nofx_grpc.store.login_tries import Blocked
from nofx_grpc.store.users import User

logger = structlog.get_logger(__name__)

_TOKEN_CONTEXT = ("login_token",)
_ATTEMPTS = 3
_NICENESS = 10

T = TypeVar("T")
M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class LoginOptions:
    """How logins and registrations behave; `monotonic` and `sleep` are the time that the floor is measured by."""

    floor_seconds: float = 0.5
    token_ttl: timedelta = timedelta(minutes=5)
    registration_ttl: timedelta = timedelta(hours=24)
    hash_threads: int = 2
    most_waiting: int = 64
    backoff: BackoffOptions = field(default_factory=BackoffOptions)
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(frozen=True, slots=True)
class Proof:
    """What came of checking a password against the hash that was stored then."""

    user_id: str  # '' if there is no such user
    hash: str = field(repr=False)
    correct: bool
    rehashed: str = field(repr=False)  # the hash by today's scheme, where the stored one is of an older one


@dataclass(frozen=True, slots=True)
class LoginToken:
    """What a login token says: whose password was right, which one that was, and until when that counts."""

    id: str
    user_id: str
    password: str = field(repr=False)
    expires_at: datetime


@dataclass(slots=True)
class Attempt:
    """One attempt; `half_done` once the password was right and a code is still due."""

    half_done: bool = False


class HashChanged(Exception):
    """The hash that a proof is about is not the stored one any more: check the password again."""


class Logins:
    """Checks passwords and codes, and makes and opens login tokens."""

    def __init__(self, envelope: Envelope, options: LoginOptions) -> None:
        self._envelope, self.options = envelope, options
        self._threads = ThreadPoolExecutor(
            options.hash_threads, thread_name_prefix="nofx-password", initializer=_give_way
        )
        self._backoff = Backoff(options.backoff)
        self._waiting = 0

    async def new_hash(self, password: str) -> str:
        """A new hash of a password.  Raises RateLimited if too many wait already."""
        with self._place():
            return await self.hash(password)

    async def hash(self, password: str) -> str:
        """As `new_hash`, in an attempt, which has its place."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, passwords.hash_password, password)

    @asynccontextmanager
    async def attempt(self, call: Call, account: Callable[[Connection], str]) -> AsyncIterator[Attempt]:
        """Count an attempt at the account that `account` finds until it has succeeded, let a refusal leave no sooner
        than the floor after its arrival, and put an unreadable OTP secret on record.

        The record of a refusal itself is made where all of them are: in front of the handlers.  Raises RateLimited: at
        once where too many wait for their turn, at the floor where the account or the caller is to wait.
        """
        arrived = self.options.monotonic()
        try:
            with self._place():
                made = await self._backoff.begin(call, account)
                attempt = Attempt()
                yield attempt
                await self._settle(
                    self._backoff.give_back if attempt.half_done else self._backoff.succeeded, call, made
                )
        except LoginRefused:
            # Whoever goes away before the floor has taken the silence for an answer: the refusal goes on record too.
            with suppress(asyncio.CancelledError):
                await self._wait_for_floor(arrived)
            raise
        except Blocked as blocked:
            await self._wait_for_floor(arrived)
            raise too_soon(blocked.remaining) from None
        except SecretUnreadable as error:
            await call.record(audit.FAILED, error.reason)
            raise

    async def _settle(self, settle: Callable[[Call, Try], Awaitable[None]], call: Call, made: Try) -> None:
        """What has succeeded stays so, whether or not the tries before it can be forgotten."""
        try:
            await settle(call, made)
        except NofxError:
            logger.warning("login_tries_not_settled", exc_info=True)

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Have a place among those whose passwords are hashed or wait for it.  Raises RateLimited if there is none."""
        if self._waiting >= self.options.most_waiting:
            raise RateLimited("too many logins at this moment", limit="logins_waiting", retry_after=1.0)
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def write_with_password(
        self,
        call: Call,
        find: Callable[[Connection, str], User | None],
        who: str,
        password: str,
        convert: Callable[[T], M],
        work: Callable[[Connection, User], T],
    ) -> M:
        """Do `work` with the user that `find` finds, in one transaction with the verdict on the password.

        Raises LoginRefused, and what `work` raises.
        """
        for _ in range(_ATTEMPTS):
            proof = await self._check(call, find, who, password)

            def checked(connection: Connection, proof: Proof = proof) -> T:
                return work(connection, accept_password(connection, proof))

            try:
                return await call.write(convert, checked)
            except HashChanged:  # another login has rehashed it, or the password was changed
                continue
        raise LoginRefused

    def accept_code(self, connection: Connection, user: User, code: str) -> None:
        """Accept the user's one-time code, this once.  Raises LoginRefused, and SecretUnreadable."""
        secret = self._envelope.open(user.otp_secret, otp_location(user.id))
        now, last = revisions.scope(connection).now, users.last_step(connection, user.id)
        try:
            step = otp.match_step(secret, code, now, last)
        except otp.OtpError:
            raise LoginRefused from None
        if not users.accept_step(connection, user.id, step):
            raise LoginRefused

    def new_token(self, user: User, now: datetime) -> tuple[str, datetime]:
        """A login token of a user whose password was right, and when it expires."""
        expires_at = now + self.options.token_ttl
        content = [secrets.token_hex(16), user.id, _digest(user.password_hash), expires_at.timestamp()]
        sealed = self._envelope.seal_bytes(json.dumps(content).encode(), _TOKEN_CONTEXT)
        return urlsafe_b64encode(sealed).decode().rstrip("="), expires_at

    def open_token(self, text: str) -> LoginToken | None:
        """What a login token says; None if it is none of ours.  Whether it still counts, `spend_token` tells."""
        try:
            blob = urlsafe_b64decode(text + "=" * (-len(text) % 4))
            id, user_id, password, expires = json.loads(self._envelope.open_bytes(blob, _TOKEN_CONTEXT))
        except (ValueError, SecretUnreadable):
            return None
        return LoginToken(id, user_id, password, datetime.fromtimestamp(expires, UTC))

    async def _check(
        self, call: Call, find: Callable[[Connection, str], User | None], who: str, password: str
    ) -> Proof:
        user = (await call.db.read(find, who)).value
        call.user_id = user.id if user else call.user_id  # for the record of a refusal
        id, hash = (user.id, user.password_hash) if user else ("", "")
        return await asyncio.get_running_loop().run_in_executor(self._threads, _prove, id, hash, password)

    async def _wait_for_floor(self, arrived: float) -> None:
        floor = self.options.floor_seconds
        if floor > 0:
            # What took longer leaves at the next multiple of the floor, so that it cannot be told apart either.
            await self.options.sleep(floor - (self.options.monotonic() - arrived) % floor)


def _give_way() -> None:
    """Let everything else of the process go first, where a priority is a thread's own: a login can wait for a core."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def accept_password(connection: Connection, proof: Proof) -> User:
    """The user whose password was checked, in the transaction that counts on it.  Raises LoginRefused, HashChanged."""
    user = users.resource.find(connection, proof.user_id)
    if user is None:
        raise LoginRefused
    if user.password_hash != proof.hash:
        raise HashChanged
    if not (proof.correct and user.can_log_in):
        raise LoginRefused
    if proof.rehashed:
        users.rehash(connection, user.id, proof.rehashed)
        return users.resource.get(connection, user.id)
    return user


def spend_token(connection: Connection, token: LoginToken | None) -> User:
    """The user of a login token, which completes this one login.  Raises LoginRefused."""
    if token is None or token.expires_at <= revisions.scope(connection).now:
        raise LoginRefused
    user = users.resource.find(connection, token.user_id)
    # A token does not outlive the password that it stands for.
    if user is None or not user.can_log_in or _digest(user.password_hash) != token.password:
        raise LoginRefused
    if not login_tokens.spend(connection, token.id, token.expires_at):
        raise LoginRefused
    return user


def otp_location(user_id: str) -> Location:
    """Where a user's OTP secret is stored."""
    return Location(users.users.name, "otp_secret", user_id, "")


def _prove(user_id: str, hash: str, password: str) -> Proof:
    """Check a password; takes tens of milliseconds, whoever it is."""
    correct = passwords.verify(hash, password)
    rehashed = passwords.hash_password(password) if correct and passwords.needs_rehash(hash) else ""
    return Proof(user_id, hash, correct, rehashed)


def _digest(hash: str) -> str:
    return sha256(hash.encode()).hexdigest()


def account_of_email(email: str) -> Callable[[Connection], str]:
    """The account of an e-mail, for counting attempts; one that does not exist counts like one that does."""

    def find(connection: Connection) -> str:
        user = users.find_by_email(connection, email)
        return f"user {user.id}" if user else f"nobody {users.key_of_email(email)}"

    return find


def account_of_id(user_id: str) -> Callable[[Connection], str]:
    """The account of a user id, whether or not there is one; none for ''."""
    return lambda _: f"user {user_id}" if user_id else ""
