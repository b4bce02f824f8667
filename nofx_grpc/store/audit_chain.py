"""The chain of audit records that one writer makes: each record's seal covers the seal of the one before it.

A writer has a chain of its own, so that processes share no lock.  A chain's places are counted in memory and kept only
when the transaction has committed: a rollback leaves no gap, and what is run again takes the same places again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Text, bindparam, func, or_, select, type_coerce, update

from nofx_grpc.crypto.chain import ChainKey
from nofx_grpc.crypto.encoding import Random
from nofx_grpc.store.audit import audit_log

BEFORE_ALL = -(2**63)  # the place before all others
BEFORE = "before"  # the chain of the records that releases without chains have left
# Every column but the mac, in the order in which they are sealed.
SEALED = (
    "chain_id",
    "chain_position",
    "at",
    "principal",
    "role",
    "method",
    "peer",
    "user_id",
    "resources",
    "outcome",
    "reason",
    "revision",
    "request_id",
)
_AT_ONCE = 1000


class Head(NamedTuple):
    """The last record of a chain, or of a part of it."""

    chain_id: str
    position: int
    mac: bytes


class Chain:
    """Gives records their places.  Used by one writer, on its thread; `on_growth` is told of each commit."""

    def __init__(self, key: ChainKey, random: Random, on_growth: Callable[[Head], None] | None = None) -> None:
        self.key, self._random, self._on_growth = key, random, on_growth
        self._head: Head | None = None
        self._next: Head | None = None

    def link(self, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Return the rows with their places and seals, as if they were to be committed."""
        self._next = None
        if not rows:
            return []
        chain_id, position, mac = self._head or self._start(rows[0]["at"])
        linked: list[Mapping[str, Any]] = []
        for row in rows:
            position += 1
            placed = {"chain_id": chain_id, "chain_position": position, **row}
            mac = self.key.link(mac, content(placed[name] for name in SEALED))
            placed["mac"] = mac
            linked.append(placed)
        self._next = Head(chain_id, position, mac)
        return linked

    def committed(self) -> None:
        """What was linked last is there to stay."""
        if self._next is None:
            return
        self._head, self._next = self._next, None
        if self._on_growth is not None:
            self._on_growth(self._head)

    def renew(self) -> None:
        """Begin another chain with the next record.

        Where nobody can tell what the database has kept of this one, to go on with it could fork it.
        """
        self._head = self._next = None

    def _start(self, now: datetime) -> Head:
        chain_id = f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{self._random(6).hex()}"
        return Head(chain_id, 0, self.key.start(chain_id))


class Stored(NamedTuple):
    """A record as the database has it: what was sealed, and the seal."""

    position: Any  # a number, unless somebody has put something else there
    fields: list[str]
    mac: bytes


_C = audit_log.c
# As text, for what is read may be anything: a time that is none must be found, and not end the search.
_AT = {"sqlite": type_coerce(_C.at, Text), "postgresql": func.to_char(_C.at, "YYYY-MM-DD HH24:MI:SS.US")}
_PAGE = {
    engine: select(*(at if name == "at" else _C[name] for name in SEALED), _C.mac)
    .where(_C.chain_id == bindparam("chain_id"), _C.chain_position > bindparam("after"))
    .order_by(_C.chain_position)
    .limit(bindparam("limit"))
    for engine, at in _AT.items()
}
_FIRST_CHAIN = select(func.min(_C.chain_id))
_NEXT_CHAIN = _FIRST_CHAIN.where(_C.chain_id > bindparam("after"))
_LAST = (
    select(_C.chain_position, _C.mac)
    .where(_C.chain_id == bindparam("chain_id"))
    .order_by(_C.chain_position.desc())
    .limit(1)
)
_COUNT = select(func.count()).select_from(audit_log)
_OUTSIDE = _COUNT.where(or_(_C.chain_id.is_(None), _C.chain_position.is_(None), _C.chain_position <= BEFORE_ALL))
_ANY_SEAL = select(_C.chain_id).where(func.length(_C.mac) > 0).limit(1)
_SEAL = (
    update(audit_log)
    .where(_C.chain_id == BEFORE, _C.chain_position == bindparam("place"))
    .values(mac=bindparam("seal"))
)


def read(connection: Connection, chain_id: str, after: int, limit: int) -> list[Stored]:
    """The records of a chain that follow the place `after`, in order, at most `limit`."""
    rows = connection.execute(_PAGE[connection.dialect.name], {"chain_id": chain_id, "after": after, "limit": limit})
    return [_stored(row) for row in rows]


def _stored(row: Sequence[Any]) -> Stored:
    fields = content(row[:-1])
    at = fields[SEALED.index("at")]
    fields[SEALED.index("at")] = at if "." in at else f"{at}.000000"  # SQLite's text leaves out what is zero
    return Stored(row[SEALED.index("chain_position")], fields, as_bytes(row[-1]))


def as_bytes(value: object) -> bytes:
    """What a column of bytes holds; nothing where somebody has put something else there."""
    return bytes(value) if isinstance(value, bytes | memoryview) else b""


def next_chain(connection: Connection, after: str | None) -> str | None:
    """The id of the first chain behind another one, in the order of ids, or of all; None if there is none."""
    found = connection.execute(_FIRST_CHAIN) if after is None else connection.execute(_NEXT_CHAIN, {"after": after})
    chain_id: str | None = found.scalar_one()
    return chain_id


def count(connection: Connection) -> int:
    """How many records there are."""
    records: int = connection.execute(_COUNT).scalar_one()
    return records


def count_outside(connection: Connection) -> int:
    """How many records are in no chain, or before the first place of one: where nobody who reads chains comes to."""
    records: int = connection.execute(_OUTSIDE).scalar_one()
    return records


def tails(connection: Connection) -> Iterator[Head]:
    """The last record of each chain, as the database has it."""
    chain_id = next_chain(connection, None)
    while chain_id is not None:
        position, mac = connection.execute(_LAST, {"chain_id": chain_id}).one()
        yield Head(chain_id, position, as_bytes(mac))
        chain_id = next_chain(connection, chain_id)


def seal_old_records(connection: Connection, key: ChainKey) -> None:
    """Chain the records of releases without chains as they are found.

    For the transaction of the migration that made place for the chains, and no other: where any record has a seal
    already, none is made.
    """
    if connection.execute(_ANY_SEAL).one_or_none() is not None:
        return
    position, mac = 0, key.start(BEFORE)
    while records := read(connection, BEFORE, position, _AT_ONCE):
        seals = []
        for record in records:
            position, mac = record.position, key.link(mac, record.fields)
            seals.append({"place": position, "seal": mac})
        connection.execute(_SEAL, seals)


def content(values: Iterable[Any]) -> list[str]:
    """The values of the sealed columns as they are sealed, whichever engine keeps them."""
    return [value if type(value) is str else sealed_text(value) for value in values]


def sealed_text(value: object) -> str:
    """One value as it is sealed; times in this form are in the order of the text."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
    return str(value) if isinstance(value, int) else repr(value)  # nothing else is there but by tampering
