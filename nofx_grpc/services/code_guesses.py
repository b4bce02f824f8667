"""Guessing at beta codes gets slower, as guessing at logins does, in every server of a database.

A wrong code counts against its caller; and, because whoever has a gateway's token can make up the addresses of its end
users, against the principal, which may make more.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from nofx_grpc.errors import BetaCodeInvalid, NofxError, RateLimited
from nofx_grpc.services.backoff import BackoffOptions
from nofx_grpc.services.call import Call
from nofx_grpc.store import login_tries
from nofx_grpc.store.login_tries import Blocked, Counter

logger = structlog.get_logger(__name__)

_CALLERS = 10  # that a principal may guess for at the rate of one


@dataclass(slots=True)
class Guess:
    """One guess; `wrong` where that is told by an answer, not an error."""

    wrong: bool = False


class CodeGuesses:
    """Counts wrong beta codes, and refuses those that come too soon."""

    def __init__(self, options: BackoffOptions) -> None:
        self._options = options

    @asynccontextmanager
    async def guess(self, call: Call) -> AsyncIterator[Guess]:
        """Count a guess, until it has turned out to be a right one.  Raises RateLimited."""
        counters, guess = self._counters(call), Guess()
        try:
            await call.db.write(login_tries.count, counters)
        except Blocked as blocked:
            seconds = max(blocked.remaining.total_seconds(), 0.001)
            raise RateLimited("too many wrong beta codes", limit="beta_code_backoff", retry_after=seconds) from None
        try:
            yield guess
        except BetaCodeInvalid:
            raise
        except NofxError:
            await _give_back(call, counters)
            raise
        if not guess.wrong:
            await _give_back(call, counters)

    def _counters(self, call: Call) -> list[Counter]:
        options, principal = self._options, call.identity.principal
        return [
            Counter(
                login_tries.id_of("codes", call.caller), options.of_caller, options.forget_of_caller, options.longest
            ),
            Counter(
                login_tries.id_of("codes of", principal),
                options.of_caller * _CALLERS,
                options.forget_of_caller / _CALLERS,
                options.longest,
            ),
        ]


async def _give_back(call: Call, counters: list[Counter]) -> None:
    """What has been answered stays so, whether or not the guess can be forgotten."""
    try:
        await call.db.write(login_tries.give_back, counters)
    except NofxError:
        logger.warning("login_tries_not_settled", exc_info=True)
