"""Every place that holds sealed values: how many values each key seals there, and sealing them anew.

A value names its key in clear.  So counting needs no key and no index: the database reads each place once.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Update,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    select,
    true,
    tuple_,
    update,
)

from nofx_grpc.crypto.envelope import VERSION, Envelope, Location, blob_key_id, describe, is_sealed
from nofx_grpc.crypto.keyring import NOFX_KEY_ID
from nofx_grpc.crypto.nofx import PREFIX, is_nofx_ciphertext
from nofx_grpc.errors import SecretUnreadable
from nofx_grpc.store import request_ids, revisions, set_aside
from nofx_grpc.store.resources import Resource
from nofx_grpc.store.tables import RESOURCES

_ASIDE_PAGE = 200


class Sealed(NamedTuple):
    """One stored value: the key of its row, where it is sealed for, the key that it says sealed it, and the value."""

    key: tuple[Any, ...]
    where: Location
    key_id: str
    value: Any


class Outcome(NamedTuple):
    """What came of sealing values anew: how many were, and which do not open.  The others were changed meanwhile."""

    resealed: int
    unreadable: list[Sealed]


class Place(ABC):
    """One column with sealed values.

    `key` are the columns of its row's key; `locate` makes the location of the values of the columns `named`.
    `key_id` is the id of the key that has sealed a value, for SQL; NULL where the value is not sealed.
    """

    key_id: ColumnElement[Any]

    def __init__(
        self,
        column: Column[Any],
        key: tuple[Column[Any], ...],
        named: tuple[Column[Any], ...],
        locate: Callable[..., Location],
    ) -> None:
        self.table, self.column = column.table, column
        self._key, self._named, self._locate = key, named, locate

    @abstractmethod
    def key_id_of(self, value: Any) -> str:
        """The id of the key that has sealed a value."""

    @abstractmethod
    def renewed(self, envelope: Envelope, value: Any, where: Location) -> Any:
        """The value under the primary key.  Raises SecretUnreadable."""

    @abstractmethod
    def to_sql(self, key_id: str) -> Any:
        """A key's id as `key_id` has it."""

    @abstractmethod
    def from_sql(self, key_id: Any) -> str:
        """A key's id of what `key_id` has."""

    def count(self, connection: Connection, envelope: Envelope) -> Mapping[str, int]:
        """How many values each key seals here."""
        key_id = self.key_id.label("key_id")
        statement = select(key_id, func.count()).where(self.key_id.is_not(None)).group_by("key_id")
        return {self.from_sql(id): number for id, number in connection.execute(statement)}

    def page(self, connection: Connection, envelope: Envelope, after: tuple[Any, ...], limit: int) -> list[Sealed]:
        """At most `limit` values that are to be sealed anew, from rows after the key `after`; none at the end."""
        return self._page(connection, self.key_id != self.to_sql(envelope.primary_id), after, limit)

    def _page(
        self, connection: Connection, wanted: ColumnElement[bool], after: tuple[Any, ...], limit: int
    ) -> list[Sealed]:
        beyond = tuple_(*self._key) > tuple_(*after) if after else true()
        statement = select(*self._key, *self._named, self.column).where(beyond, wanted)
        rows = connection.execute(statement.order_by(*self._key).limit(limit)).all()
        split = len(self._key)
        return [
            Sealed(tuple(row[:split]), self._locate(*row[split:-1]), self.key_id_of(row[-1]), row[-1]) for row in rows
        ]

    def reseal(self, connection: Connection, values: Sequence[Sealed]) -> Outcome:
        """Seal these values anew, in a write: no revision, nothing that a client can see.

        A value that is another one by now is left: it was written since, under the key that is primary.
        """
        envelope = revisions.scope(connection).envelope
        if envelope is None:
            raise RuntimeError("nothing is sealed in a store without keys")
        unreadable: list[Sealed] = []
        changes: list[dict[str, Any]] = []
        for sealed in values:
            try:
                new = self.renewed(envelope, sealed.value, sealed.where)
            except SecretUnreadable:
                unreadable.append(sealed)
                continue
            key = {f"key_{column.name}": part for column, part in zip(self._key, sealed.key, strict=True)}
            changes.append(key | {"old": sealed.value, "new": new})
        resealed = connection.execute(self._update(), changes).rowcount if changes else 0
        return Outcome(resealed, unreadable)

    def _update(self) -> Update:
        by_key = and_(*(column == bindparam(f"key_{column.name}") for column in self._key))
        values: dict[str, Any] = {self.column.name: bindparam("new")}
        if "rewrites" in self.table.c:
            values["rewrites"] = self.table.c.rewrites + 1
        return update(self.table).where(by_key, self.column == bindparam("old")).values(values)


def _text(text: str) -> ColumnElement[Any]:
    """A literal, not a parameter: PostgreSQL must see that what is selected is what is grouped by."""
    return literal_column(f"'{text}'")


def _part(column: Column[Any], start: int, length: int) -> ColumnElement[Any]:
    return func.substr(column, literal_column(str(start)), literal_column(str(length)))


class SealedText(Place):
    """A column of texts, sealed by `Envelope.seal`."""

    def __init__(self, column: Column[Any], *others: Any) -> None:
        super().__init__(column, *others)
        ours = f"{VERSION}:"
        self.key_id = case(
            (_part(column, 1, len(ours)) == _text(ours), _part(column, len(ours) + 1, 8)),
            (_part(column, 1, len(PREFIX)) == _text(PREFIX), _text(NOFX_KEY_ID)),
        )

    def key_id_of(self, value: str) -> str:
        header = describe(value)
        return NOFX_KEY_ID if is_nofx_ciphertext(value) else header.key_id if header else ""

    def renewed(self, envelope: Envelope, value: str, where: Location) -> str:
        # What NOFX has encrypted is left, too: it is bound to no place, so it may have been put here by anyone.
        if not is_sealed(value):
            raise SecretUnreadable(where.column)
        return envelope.renew(value, where)

    def to_sql(self, key_id: str) -> str:
        return key_id

    def from_sql(self, key_id: str) -> str:
        return key_id


class SealedBytes(Place):
    """A column of bytes, sealed by `Envelope.seal_bytes` for the parts of the location but its column."""

    def __init__(self, column: Column[Any], *others: Any) -> None:
        super().__init__(column, *others)
        self.key_id = _part(column, 2, 4)

    def key_id_of(self, value: bytes) -> str:
        return blob_key_id(value)

    def renewed(self, envelope: Envelope, value: bytes, where: Location) -> bytes:
        return envelope.renew_bytes(value, (where.table, where.user_id, where.row_id))

    def to_sql(self, key_id: str) -> bytes:
        return bytes.fromhex(key_id)

    def from_sql(self, key_id: bytes) -> str:
        return bytes(key_id).hex()


class SetAside(SealedText):
    """What was set aside: rows as NOFX had them.  What NOFX has encrypted in them is opened, and sealed with the rest.

    Nobody can have put it there: it was sealed as a whole, for its place.
    """

    def count(self, connection: Connection, envelope: Envelope) -> Mapping[str, int]:
        counts = dict(super().count(connection, envelope))
        after: tuple[Any, ...] = ()
        while page := self._page(connection, true(), after, _ASIDE_PAGE):
            after = page[-1].key
            if needing := sum(self._holds_nofx(envelope, sealed) for sealed in page):
                counts[NOFX_KEY_ID] = counts.get(NOFX_KEY_ID, 0) + needing
        return counts

    def page(self, connection: Connection, envelope: Envelope, after: tuple[Any, ...], limit: int) -> list[Sealed]:
        if envelope.nofx_v1 is None:
            return super().page(connection, envelope, after, limit)
        while page := self._page(connection, true(), after, limit):
            after = page[-1].key
            if wanted := [sealed for sealed in page if self._is_wanted(envelope, sealed)]:
                return wanted
        return []

    def renewed(self, envelope: Envelope, value: str, where: Location) -> str:
        content = envelope.open(value, where)
        opened = set_aside.open_nofx(content, envelope.nofx_v1)
        return super().renewed(envelope, value, where) if opened == content else envelope.seal(opened, where)

    def _is_wanted(self, envelope: Envelope, sealed: Sealed) -> bool:
        return sealed.key_id != envelope.primary_id or self._holds_nofx(envelope, sealed)

    def _holds_nofx(self, envelope: Envelope, sealed: Sealed) -> bool:
        try:
            content = envelope.open(sealed.value, sealed.where)
        except SecretUnreadable:
            return False
        return set_aside.open_nofx(content, envelope.nofx_v1) != content


def _secret(resource: Resource[Any], name: str) -> Place:
    key = tuple(resource.table.c[part] for part in resource.key)
    return SealedText(resource.table.c[name], key, key, lambda *values: resource.location(values, name))


_aside, _answers = set_aside.set_aside.c, request_ids.request_ids.c
_answer_key = (_answers.principal, _answers.request_id)

PLACES: tuple[Place, ...] = (
    *(_secret(resource, name) for resource in RESOURCES for name in resource.secrets),
    SetAside(_aside.content, (_aside.id,), (_aside.source_table, _aside.source_key, _aside.code), set_aside.location),
    SealedBytes(_answers.answer, _answer_key, _answer_key, partial(Location, "request_ids", "answer")),
)
