"""Beta codes: each lets one person register (spec §2.7)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, Index, Table, bindparam, func, insert, not_, select, text

from nofx_grpc.errors import BetaCodeInvalid
from nofx_grpc.store import revisions
from nofx_grpc.store.metadata import flag_column, key_column, metadata, revision_column, text_column, time_column
from nofx_grpc.store.resources import Resource
from nofx_grpc.store.revisions import Kind, Operation

beta_codes = Table(
    "beta_codes",
    metadata,
    key_column("code", primary_key=True),
    flag_column("used"),
    text_column("used_by"),
    time_column("used_at", nullable=True),
    time_column("created_at"),
    time_column("updated_at"),
    revision_column(),
)

# Holds spent codes only: an import makes others, in random order, and would take half as long again if it held them.
Index("ix_beta_codes_spent", beta_codes.c.code, sqlite_where=text("used = 1"), postgresql_where=text("used"))


@dataclass(frozen=True, slots=True)
class BetaCode:
    """A beta code; `used_by` is the e-mail of who redeemed it."""

    code: str
    used: bool
    used_by: str
    used_at: datetime | None
    created_at: datetime
    updated_at: datetime
    revision: int


class Stats(NamedTuple):
    """How many codes there are, and how many of them are spent."""

    total: int
    used: int


resource = Resource(Kind.BETA_CODE, beta_codes, BetaCode, key=("code",))

_INSERT = insert(beta_codes)
_KNOWN = select(beta_codes.c.code).where(beta_codes.c.code.in_(bindparam("codes", expanding=True)))
_COUNT = select(func.count()).select_from(beta_codes)
_COUNT_SPENT = _COUNT.where(beta_codes.c.used)
_PAGE = (
    select(*(beta_codes.c[name] for name in BetaCode.__slots__))
    .where(beta_codes.c.code > bindparam("after"))
    .order_by(beta_codes.c.code)
    .limit(bindparam("limit"))
)
_PAGE_BY_USE = {True: _PAGE.where(beta_codes.c.used), False: _PAGE.where(not_(beta_codes.c.used))}


@dataclass(frozen=True, slots=True)
class Listing:
    """The codes in their order: those that are spent, those that are not, or all."""

    used: bool | None

    def page(
        self, connection: Connection, *, user_id: str = "", after: tuple[str, ...] = (), limit: int
    ) -> list[BetaCode]:
        """At most `limit` codes after the code `after`."""
        if self.used is None:
            return resource.page(connection, user_id=user_id, after=after, limit=limit)
        parameters = {"after": after[0] if after else "", "limit": limit}
        return [BetaCode(*row) for row in connection.execute(_PAGE_BY_USE[self.used], parameters)]

    def key_of(self, code: BetaCode) -> tuple[str, ...]:
        return resource.key_of(code)


def count(connection: Connection) -> Stats:
    return Stats(connection.execute(_COUNT).scalar_one(), connection.execute(_COUNT_SPENT).scalar_one())


def add(connection: Connection, codes: Iterable[str]) -> list[BetaCode]:
    """Insert those of at most some thousand codes that are not there yet, and return them.

    The audit record names how many they are, not each of them.
    """
    wanted = dict.fromkeys(codes)
    if not _unknown(connection, wanted):
        return []
    revision, now = revisions.take(connection), revisions.scope(connection).now
    # Asked again under the lock of the revision: only then has no other replica inserted some of them meanwhile.
    new = [
        BetaCode(code, used=False, used_by="", used_at=None, created_at=now, updated_at=now, revision=revision)
        for code in _unknown(connection, wanted)
    ]
    if new:
        connection.execute(_INSERT, [_row(record) for record in new])
        _log_created(connection, new)
    return new


def generate(connection: Connection, number: int, make: Callable[[], str]) -> list[BetaCode]:
    """Insert this many new codes; `make` makes one that is very probably new."""
    made: list[BetaCode] = []
    while len(made) < number:
        made += add(connection, [make() for _ in range(number - len(made))])
    return made


def redeem(connection: Connection, code: str, email: str) -> BetaCode:
    """Spend a code for whoever has this e-mail; each code once, whoever else tries.  Raises BetaCodeInvalid."""
    # The lock of the revision comes first: whoever waits for it then sees, on every engine, what was spent before.
    revisions.take(connection)
    found = resource.find(connection, code)
    if found is None or found.used:
        raise BetaCodeInvalid
    return resource.put(connection, replace(found, used=True, used_by=email, used_at=revisions.scope(connection).now))


def release(connection: Connection, code: str, spent_at: datetime) -> None:
    """Make a code good again that was spent at this time; one that was deleted or spent anew since stays as it is."""
    found = resource.find(connection, code)
    if found is not None and found.used and found.used_at == spent_at:
        resource.put(connection, replace(found, used=False, used_by="", used_at=None))


def _unknown(connection: Connection, codes: Iterable[str]) -> list[str]:
    """Those of the codes that are not stored, in their order."""
    known = set(connection.execute(_KNOWN, {"codes": list(codes)}).scalars())
    return [code for code in codes if code not in known]


def _row(record: BetaCode) -> dict[str, object]:
    return {name: getattr(record, name) for name in BetaCode.__slots__}


def _log_created(connection: Connection, codes: list[BetaCode]) -> None:
    for record in codes:
        revisions.log_quietly(connection, Kind.BETA_CODE, "", record.code, Operation.CREATE, resource.to_log(record))
    revisions.touch(connection, Kind.BETA_CODE, "", f"({len(codes)} codes)", Operation.CREATE)
