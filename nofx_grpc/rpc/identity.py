"""From what a caller shows to who it is."""

import asyncio
import time
from collections.abc import Callable, Iterable
from datetime import datetime

from nofx_grpc.crypto.tokens import looks_like_token, token_hash
from nofx_grpc.errors import StoreUnavailable, Unauthenticated
from nofx_grpc.services.call import Identity
from nofx_grpc.services.roles import permissions_of
from nofx_grpc.store import tokens
from nofx_grpc.store.engine import Database
from nofx_grpc.store.tokens import Token

_REMEMBERED = 10_000
_STRANGERS = 4
_AT_ONCE = 50  # so many are read on the event loop in less than a millisecond


class Tokens:
    """Tells the identity behind a bearer token.

    A token is looked up at most once a second, so a revocation takes effect within a second in every process that
    shares the database.
    """

    def __init__(self, db: Database, clock: Callable[[], datetime], *, remember_seconds: float = 1.0) -> None:
        self._db, self._clock, self._seconds = db, clock, remember_seconds
        self._known: dict[str, tuple[float, Token | None]] = {}
        self._used: set[str] = set()
        self._strangers = asyncio.Semaphore(_STRANGERS)

    async def identify(self, authorization: str | bytes | None, *, local: bool, as_known: bool = False) -> Identity:
        """The identity behind an `authorization` header.  Raises Unauthenticated.

        `local` tells whether the call came over loopback or a Unix socket, where alone a bootstrap token works;
        `as_known` takes what was looked up last, however long ago, and asks nobody.  Raises StoreUnavailable if that is
        not remembered.
        """
        secret = _secret_in(authorization)
        token = await self._token(token_hash(secret), as_known=as_known) if looks_like_token(secret) else None
        if token is None:
            raise Unauthenticated("the token is not known")
        principal = f"token:{token.id}"
        if problem := self._problem(token, local=local):
            raise Unauthenticated(problem, principal=principal)
        self._used.add(token.id)
        permissions = permissions_of(token.role, reveal=token.reveal, reveal_system=token.reveal_system)
        return Identity(principal, token.role, permissions, token.user_id, token.id)

    async def refresh(self, authorizations: Iterable[str | bytes | None]) -> None:
        """Look up the tokens of those who were identified before, many in one read."""
        secrets = [_secret_in(authorization) for authorization in authorizations if authorization is not None]
        hashes = sorted({token_hash(secret) for secret in secrets})
        for start in range(0, len(hashes), _AT_ONCE):
            some, until = hashes[start : start + _AT_ONCE], time.monotonic() + self._seconds
            found = (await self._db.read(tokens.find_by_hashes, some)).value
            self._known |= {hash: (until, found.get(hash)) for hash in some}
            await asyncio.sleep(0)  # others have their turn

    def _problem(self, token: Token, *, local: bool) -> str:
        if token.revoked_at is not None:
            return "the token was revoked"
        if token.expires_at is not None and token.expires_at <= self._clock():
            return "the token has expired"
        if token.bootstrap and not local:
            return "a bootstrap token works on loopback and Unix sockets only: make one with 'nofx-grpc token create'"
        return ""

    def take_used(self) -> set[str]:
        """The ids of the tokens that identified somebody since the last time that this was asked."""
        used, self._used = self._used, set()
        return used

    async def _token(self, hash: str, *, as_known: bool) -> Token | None:
        now = time.monotonic()
        known = self._known.get(hash)
        if known is not None and (as_known or now < known[0]):
            return known[1]
        if as_known:
            raise StoreUnavailable("the token has to be looked up")
        if known is not None:
            token = await self._look_up(hash)
        else:
            async with self._strangers:  # whoever makes up tokens must not take all connections to the database
                token = await self._look_up(hash)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        if token is not None:  # unknown ones are not remembered, or anyone could fill the memory
            self._known[hash] = now + self._seconds, token
        return token

    async def _look_up(self, hash: str) -> Token | None:
        return (await self._db.read(tokens.find_by_hash, hash)).value


def _secret_in(authorization: str | bytes | None) -> str:
    """The token in an `authorization` header.  Raises Unauthenticated."""
    if authorization is None:
        raise Unauthenticated("no credential: send the metadata 'authorization: Bearer <token>'")
    scheme, _, secret = authorization.partition(" ") if isinstance(authorization, str) else ("", "", "")
    if scheme.lower() != "bearer" or not secret:
        raise Unauthenticated("the authorization metadata is not of the form 'Bearer <token>'")
    return secret.strip()
