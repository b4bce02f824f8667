"""Accounts: a user with the e-mail, and everything that is theirs, made and removed as a whole.

An e-mail is unique without regard to case.  A registration that was not completed in time is as good as gone: it keeps
nobody from its e-mail, and is removed by whoever comes across it.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from nofx_grpc.errors import AlreadyExists, InUse, NotFound
from nofx_grpc.store import audit, beta_codes, exchanges, models, revisions, signal_sources, tokens, traders, users
from nofx_grpc.store.audit import AuditRecord
from nofx_grpc.store.decisions import logs
from nofx_grpc.store.resources import Resource
from nofx_grpc.store.revisions import Kind
from nofx_grpc.store.users import User

# What a user owns, in the order in which it can be deleted: a trader refers to its model and its exchange.
_OWNED: tuple[Resource[Any], ...] = (traders.resource, models.resource, exchanges.resource, signal_sources.resource)
_AT_ONCE = 500

HOUSEKEEPING = AuditRecord(principal="system", role="", method="housekeeping: remove expired registrations", peer="")


def create(connection: Connection, draft: User) -> User:
    """Insert a user.  Raises AlreadyExists if the id or the e-mail is taken."""
    _claim_email(connection, draft)
    return users.resource.create(connection, draft)


def update(
    connection: Connection, id: str, etag: str, change: Callable[[User], User], draft: Callable[[], User] | None
) -> User:
    """Replace a user as `Resource.update` does.  Raises what that raises, and AlreadyExists if the e-mail is taken."""

    def claimed(user: User) -> User:
        _claim_email(connection, user)
        return user

    def change_and_claim(current: User) -> User:
        changed = change(current)
        return changed if changed.email == current.email else claimed(changed)

    make = None if draft is None else lambda: claimed(draft())
    return users.resource.update(connection, (id,), etag, change_and_claim, make)


def delete(
    connection: Connection, id: str, etag: str, claims: logs.Claims, *, allow_missing: bool, force: bool
) -> None:
    """Delete a user with all that is theirs, each with its own row in the change log; the decision records of the
    user's traders stay, and are the user's for good.

    Raises NotFound, EtagMismatch, and InUse naming the user's traders unless `force` is set.
    """
    user = users.resource.find(connection, id)
    if user is None:
        if allow_missing:
            return
        raise NotFound(Kind.USER, id)
    users.resource.check_etag(user, etag)
    if not force and (trader_ids := traders.of_user(connection, id)):
        raise InUse(Kind.USER, id, by="the traders", users=trader_ids)
    logs.claim(connection, claims)
    _remove(connection, user)


def register(connection: Connection, draft: User, *, code: str, ttl: timedelta) -> User:
    """Insert a user who has to complete the registration within `ttl`; spend the beta code, unless it is ''.

    Raises BetaCodeInvalid; only then, for whoever has a code, AlreadyExists if the e-mail is taken.
    """
    expires_at = revisions.scope(connection).now + ttl
    _remove_if_expired(connection, users.find_by_email(connection, draft.email))
    if code:
        beta_codes.redeem(connection, code, draft.email)
    return create(connection, replace(draft, registration_expires_at=expires_at, registration_code=code))


def complete(connection: Connection, user: User) -> User:
    """Turn a registration into a user who can log in, for good."""
    completed = replace(user, otp_verified=True, registration_expires_at=None, registration_code="")
    return users.resource.put(connection, completed, user)


def is_expired(connection: Connection, user: User) -> bool:
    """Whether the user's registration was not completed in time."""
    return user.registration_expires_at is not None and user.registration_expires_at <= revisions.scope(connection).now


def remove_expired(connection: Connection, limit: int = 100) -> int:
    """Remove registrations that were not completed in time, and tell how many; call again while that is `limit`."""
    expired = users.expired_registrations(connection, revisions.scope(connection).now, limit)
    for user in expired:
        _remove(connection, user)
    if expired:
        audit.append(connection, HOUSEKEEPING)
    return len(expired)


def _claim_email(connection: Connection, user: User) -> None:
    """Raises AlreadyExists if the e-mail is another user's; one whose registration has expired is removed."""
    revisions.take(connection)  # the lock: of two who want the same e-mail the second sees the first
    holder = users.find_by_email(connection, user.email)
    if holder is None or holder.id == user.id or _remove_if_expired(connection, holder):
        return
    raise AlreadyExists(Kind.USER, user.email, field="email")


def _remove_if_expired(connection: Connection, user: User | None) -> bool:
    if user is None or not is_expired(connection, user):
        return False
    _remove(connection, user)
    return True


def _remove(connection: Connection, user: User) -> None:
    """Delete all that is the user's, child by child, and then the user; the code of a registration is good again."""
    for owned in _OWNED:
        while page := owned.page(connection, user_id=user.id, limit=_AT_ONCE):
            for record in page:
                owned.delete(connection, owned.key_of(record))
    tokens.revoke_of_user(connection, user.id)
    if user.registration_code:
        beta_codes.release(connection, user.registration_code, user.created_at)
    users.resource.delete(connection, (user.id,))
