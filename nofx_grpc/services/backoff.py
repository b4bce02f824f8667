"""Back-off: who fails again and again to show who they are waits longer and longer, in every server of a database.

Tries count against an account and a caller together, against the account, whoever tries, and against the caller,
whatever account it tries.  Accounts that do not exist count as those that do.  Who has logged in from somewhere before
is let in from there whoever else tries: nobody is locked out for good by the tries of others.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from nofx_grpc.errors import RateLimited
from nofx_grpc.services.call import Call
from nofx_grpc.store import known_callers, login_tries
from nofx_grpc.store.engine import Connection
from nofx_grpc.store.login_tries import Counter

_KNOWN_FOR = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class BackoffOptions:
    """How many tries cost nothing, and how long somebody waits at most after further ones."""

    of_one: int = 5  # at one account, by one caller
    of_account: int = 20
    of_caller: int = 100
    longest: timedelta = timedelta(minutes=5)
    forget: timedelta = timedelta(minutes=15)
    forget_of_caller: timedelta = timedelta(seconds=6)


class Try(NamedTuple):
    """A try that was let through and counted."""

    of_account: tuple[Counter, ...]
    of_caller: Counter
    known: str  # the id of the note that this caller has logged in to the account


class Backoff:
    """Counts tries, and refuses those that come too soon."""

    def __init__(self, options: BackoffOptions) -> None:
        self._options = options

    async def begin(self, call: Call, account: Callable[[Connection], str]) -> Try:
        """Count a try at the account that `account` finds ('' for none).  Raises Blocked."""
        return (await call.db.write(self._count, account, call.caller)).value

    async def succeeded(self, call: Call, made: Try) -> None:
        """Forget the tries at an account to which somebody has logged in, and know the caller from now on."""

        def forgive(connection: Connection) -> None:
            login_tries.forgive(connection, made.of_account)
            # The caller's others count on: else whoever has an account could guess at those of others for ever.
            login_tries.give_back(connection, [made.of_caller])
            if made.known:
                known_callers.note(connection, made.known, _KNOWN_FOR)

        await call.db.write(forgive)

    async def give_back(self, call: Call, made: Try) -> None:
        """Take a try back that was no guess, or was not answered."""
        await call.db.write(login_tries.give_back, [*made.of_account, made.of_caller])

    def _count(self, connection: Connection, find: Callable[[Connection], str], caller: str) -> Try:
        options, account = self._options, find(connection)
        of_caller = Counter(
            login_tries.id_of("caller", caller), options.of_caller, options.forget_of_caller, options.longest
        )
        made = Try((), of_caller, "")
        if account:
            made = self._at_account(connection, account, caller, of_caller)
        login_tries.count(connection, [*made.of_account, of_caller])
        return made

    def _at_account(self, connection: Connection, account: str, caller: str, of_caller: Counter) -> Try:
        options, known = self._options, login_tries.id_of("known", account, caller)
        together = Counter(login_tries.id_of("both", account, caller), options.of_one, options.forget, options.longest)
        alone = Counter(login_tries.id_of("account", account), options.of_account, options.forget, options.longest)
        counters = (together,) if known_callers.is_known(connection, known) else (together, alone)
        return Try(counters, of_caller, known)


def too_soon(remaining: timedelta) -> RateLimited:
    """What is said to whoever is to wait; the same for accounts that do not exist."""
    seconds = max(remaining.total_seconds(), 0.001)
    return RateLimited("too many failed logins", limit="login_backoff", retry_after=seconds)
