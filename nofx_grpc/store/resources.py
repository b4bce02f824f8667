"""What every resource's table has in common: read by key, list by keyset, create, update and delete at a revision.

Each noun's module declares its table and record and makes one `Resource` of them; only what is particular to the noun
is written there.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from sqlalchemy import Connection, Select, Table, Update, and_, bindparam, delete, insert, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from nofx_grpc.crypto.envelope import Location, is_sealed, stub
from nofx_grpc.errors import (
    AlreadyExists,
    EtagMismatch,
    InvalidArgument,
    NotFound,
    SecretUnreadable,
    StoreUnavailable,
    Violation,
)
from nofx_grpc.store import revisions
from nofx_grpc.store.backend import is_duplicate
from nofx_grpc.store.metadata import UtcDateTime
from nofx_grpc.store.revisions import Kind, Operation

_NEVER = datetime.min.replace(tzinfo=UTC)

# What a draft has in place of what `Resource.create` sets.
UNWRITTEN: dict[str, Any] = {"revision": 0, "created_at": _NEVER, "updated_at": _NEVER}


class Record(Protocol):
    """A row as a frozen dataclass; each field is named as its column.  Columns without a field are the store's own."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def revision(self) -> int: ...
    @property
    def updated_at(self) -> datetime: ...


R = TypeVar("R", bound=Record)


class Resource(Generic[R]):
    """One kind of resource in one table.

    `key` are the key columns, `secrets` those that hold sealed text, `hidden` those that never leave in any form
    (hashes).
    `owner` is the resource that a new one's `user_id` must name; `user_column` tells whose a resource is, if anyone's.
    `always_sealed` is False where a secret column holds sealed text in some rows only.
    """

    def __init__(
        self,
        kind: Kind,
        table: Table,
        record: type[R],
        *,
        key: tuple[str, ...],
        secrets: tuple[str, ...] = (),
        hidden: tuple[str, ...] = (),
        owner: "Resource[Any] | None" = None,
        user_column: str = "user_id",
        always_sealed: bool = True,
    ) -> None:
        fields = [field.name for field in dataclasses.fields(record)]
        columns = [table.c[name] for name in fields]
        self.kind, self.table, self.record, self.key = kind, table, record, key
        self.secrets, self.hidden, self.owner, self._user_column = secrets, hidden, owner, user_column
        self._fields, self._always_sealed = fields, always_sealed
        key_columns = [table.c[name] for name in key]
        by_key = and_(*(column == bindparam(f"key_{column.name}") for column in key_columns))
        self._get = select(*columns).where(by_key)
        self._insert = insert(table)
        self._by_key = by_key
        # A statement for each set of columns that is changed together: an update of one field writes one.
        self._update_of = lru_cache(maxsize=256)(self._make_update)
        self._delete = delete(table).where(by_key)
        after = tuple_(*key_columns) > tuple_(*(bindparam(f"after_{name}") for name in key))
        self._first: Select[Any] = select(*columns).order_by(*key_columns).limit(bindparam("limit"))
        self._next = self._first.where(after)
        if user_column in fields:
            of_user = table.c[user_column] == bindparam("user_id")
            self._first_of_user, self._next_of_user = self._first.where(of_user), self._next.where(of_user)

    def find(self, connection: Connection, *key: str) -> R | None:
        """The resource with this key, or None."""
        row = connection.execute(self._get, self._key_parameters(key)).one_or_none()
        return None if row is None else self.record(*row)

    def get(self, connection: Connection, *key: str) -> R:
        """The resource with this key.  Raises NotFound."""
        record = self.find(connection, *key)
        if record is None:
            raise NotFound(self.kind, self._id(key))
        return record

    def page(self, connection: Connection, *, user_id: str = "", after: tuple[str, ...] = (), limit: int) -> list[R]:
        """At most `limit` resources in key order, after the key `after`, of one user or of all."""
        parameters: dict[str, object] = {"limit": limit}
        parameters.update((f"after_{name}", value) for name, value in zip(self.key, after, strict=bool(after)))
        if user_id:
            parameters["user_id"] = user_id
            statement = self._next_of_user if after else self._first_of_user
        else:
            statement = self._next if after else self._first
        return [self.record(*row) for row in connection.execute(statement, parameters)]

    def create(self, connection: Connection, draft: R) -> R:
        """Insert `draft`; its revision and times are set here.  Raises AlreadyExists, and NotFound if the owner is
        missing.
        """
        key = self.key_of(draft)
        if self.owner is not None:
            self.owner.get(connection, self._user_id(draft))
        if self.find(connection, *key) is not None:
            raise AlreadyExists(self.kind, self._id(key))
        now = revisions.scope(connection).now
        created: dict[str, Any] = {"created_at": now} if "created_at" in self._fields else {}
        record = dataclasses.replace(draft, revision=revisions.take(connection), updated_at=now, **created)
        record = self._renewed(connection, record)
        values = self._values(record)
        check_values(values)
        try:
            connection.execute(self._insert, values)
        except IntegrityError as error:
            if is_duplicate(error):  # another user's resource has this id, or another replica was faster
                raise AlreadyExists(self.kind, self._id(key)) from error
            raise
        self.log(connection, record, Operation.CREATE)
        return record

    def update(
        self,
        connection: Connection,
        key: tuple[str, ...],
        etag: str,
        change: Callable[[R], R],
        draft: Callable[[], R] | None = None,
    ) -> R:
        """Replace the resource by what `change` makes of it; nothing is written if that is the same.

        A missing one is created from `draft`, where that is given.
        Raises NotFound, EtagMismatch if `etag` is given and is not the resource's, and what `change` and `draft` raise.
        """
        current = self.find(connection, *key)
        if current is None:
            if draft is None:
                raise NotFound(self.kind, self._id(key))
            if etag:  # the caller has seen one, and does not know that it is gone
                raise EtagMismatch(self.kind, self._id(key))
            return self.create(connection, draft())
        self.check_etag(current, etag)
        changed = change(current)
        if changed == current:
            return current
        return self.put(connection, changed, current)

    def put(self, connection: Connection, changed: R, current: R | None = None) -> R:
        """Write a changed record of an existing resource at this function's revision.  Raises NotFound.

        Where the `current` one is given, only the columns that differ are written; a resource with secrets needs it.
        """
        now = revisions.scope(connection).now
        record = dataclasses.replace(changed, revision=revisions.take(connection), updated_at=now)
        record = self._renewed(connection, record, current)
        values = self._values(record)
        if current is not None:
            values = {name: value for name, value in values.items() if value != getattr(current, name)}
        values = {name: value for name, value in values.items() if name not in self.key}
        check_values(values)
        statement = self._update_of(tuple(values))
        parameters: dict[str, Any] = {f"new_{name}": value for name, value in values.items()}
        key = self.key_of(record)
        if connection.execute(statement, parameters | self._key_parameters(key)).rowcount == 0:
            raise NotFound(self.kind, self._id(key))
        self.log(connection, record, Operation.UPDATE)
        return record

    def _make_update(self, names: tuple[str, ...]) -> Update:
        values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in names}
        return update(self.table).where(self._by_key).values(values)

    def delete(
        self, connection: Connection, key: tuple[str, ...], etag: str = "", *, allow_missing: bool = False
    ) -> R | None:
        """Delete the resource and return what it was; None if it was missing and may be.  Raises NotFound,
        EtagMismatch.
        """
        current = self.find(connection, *key)
        if current is None:
            if allow_missing:
                return None
            raise NotFound(self.kind, self._id(key))
        self.check_etag(current, etag)
        connection.execute(self._delete, self._key_parameters(key))
        revisions.log(connection, self.kind, self._user_id(current), self._id(key), Operation.DELETE)
        return current

    def check_etag(self, current: R, etag: str) -> None:
        """Raises EtagMismatch unless `etag` is empty or the resource's."""
        if etag and etag != etag_of(current):
            raise EtagMismatch(self.kind, self._id(self.key_of(current)))

    def log(self, connection: Connection, record: R, operation: Operation) -> None:
        """Write the change-log row of a record that was just written."""
        id = self._id(self.key_of(record))
        revisions.log(connection, self.kind, self._user_id(record), id, operation, self.to_log(record))

    def to_log(self, record: R) -> str:
        """The public record as JSON: sealed values cut to their headers, hashes to a mark."""
        values = self._values(record)
        for name in self.secrets:
            if self._always_sealed or is_sealed(values[name]):  # a foreign writer may have put a secret there in clear
                values[name] = stub(values[name])
        for name in self.hidden:
            values[name] = "*" if values[name] else ""
        return _to_json(values)

    def from_log(self, resource: str) -> R:
        """The record that `to_log` wrote."""
        values = json.loads(resource)
        for name in self._fields:
            if values[name] is not None and isinstance(self.table.c[name].type, UtcDateTime):
                values[name] = datetime.fromisoformat(values[name])
        return self.record(**values)

    def key_of(self, record: R) -> tuple[str, ...]:
        return tuple(getattr(record, name) for name in self.key)

    def location(self, key: tuple[str, ...], column: str) -> Location:
        """Where a secret of the resource with this key is sealed for."""
        parts = dict(zip(self.key, key, strict=True))
        user_id = parts.pop(self._user_column, "")
        return Location(self.table.name, column, user_id, *(parts.values() or [""]))

    def _renewed(self, connection: Connection, record: R, current: R | None = None) -> R:
        """The record with every secret that differs from the current one under the key that is primary now: it was
        sealed before this transaction, and the key may have been replaced, and retired, since.
        """
        envelope = revisions.scope(connection).envelope
        if envelope is None or not self.secrets:
            return record
        key = self.key_of(record)
        changed = [name for name in self.secrets if current is None or getattr(record, name) != getattr(current, name)]
        try:
            renewed = {name: envelope.renew(getattr(record, name), self.location(key, name)) for name in changed}
        except SecretUnreadable as error:
            raise StoreUnavailable("the keys were changed while this was being written: nothing was") from error
        return dataclasses.replace(record, **renewed)

    def _values(self, record: R) -> dict[str, Any]:
        return {name: getattr(record, name) for name in self._fields}

    def _key_parameters(self, key: Iterable[str]) -> dict[str, str]:
        return {f"key_{name}": value for name, value in zip(self.key, key, strict=True)}

    def _user_id(self, record: R) -> str:
        return str(getattr(record, self._user_column, ""))

    def _id(self, key: tuple[str, ...]) -> str:
        return key[self.key.index("id")] if "id" in self.key else key[0]


def etag_of(record: Record) -> str:
    """An opaque text that is another one after every change.

    The time is part of it so that two histories that part after a restore, and count through the same revisions, do
    not share etags.
    """
    return f"{record.revision:x}.{int(record.updated_at.timestamp() * 1_000_000):x}"


def check_values(values: Mapping[str, Any]) -> None:
    """Raises InvalidArgument for what one engine would take and the other refuse: NUL in text, numbers that are not
    finite.
    """
    for name, value in values.items():
        if isinstance(value, str) and "\0" in value:
            raise InvalidArgument(Violation(name, "contains a NUL character, which cannot be stored"))
        if isinstance(value, float) and not -float("inf") < value < float("inf"):
            raise InvalidArgument(Violation(name, "is not a finite number"))


def _json_default(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} cannot be part of a change-log record")


_to_json = json.JSONEncoder(default=_json_default, ensure_ascii=False, separators=(",", ":")).encode
