"""Reading the audit log: the newest records first, page by page."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, func, literal, literal_column, select, tuple_

from nofx_grpc.store.audit import OK, audit_log
from nofx_grpc.store.audit_chain import SEALED

_C = audit_log.c
_ALL = select(*(_C[name] for name in SEALED)).order_by(_C.at.desc(), _C.chain_id.desc(), _C.chain_position.desc())


class AuditEvent(NamedTuple):
    """A record and its place; the columns in their order."""

    chain_id: str
    chain_position: int
    at: datetime
    principal: str
    role: str
    method: str
    peer: str
    user_id: str
    resources: str
    outcome: str
    reason: str
    revision: int | None
    request_id: str


@dataclass(frozen=True, slots=True)
class Listing:
    """The records with these properties; '' and None stand for any."""

    principal: str = ""
    method: str = ""
    resource: str = ""  # that `resources` contain
    outcome: str = ""
    start: datetime | None = None
    end: datetime | None = None

    def page(self, connection: Connection, *, user_id: str, after: tuple[str, ...], limit: int) -> list[AuditEvent]:
        """At most `limit` records that follow the key `after`, the newest first."""
        conditions = [*self._conditions(connection), *([_C.user_id == user_id] if user_id else ()), *_behind(after)]
        return [AuditEvent(*row) for row in connection.execute(_ALL.where(*conditions).limit(limit))]

    def key_of(self, record: AuditEvent) -> tuple[str, ...]:
        return record.at.isoformat(), record.chain_id, str(record.chain_position)

    def _conditions(self, connection: Connection) -> Iterator[ColumnElement[bool]]:
        if self.principal:
            yield _C.principal == self.principal
        if self.method:
            yield _C.method == self.method
        if self.resource:
            contains: Any = func.instr if connection.dialect.name == "sqlite" else func.strpos
            yield contains(_C.resources, self.resource) > 0
        if self.outcome:
            yield _C.outcome == self.outcome
        if self.outcome and self.outcome != OK:
            yield _C.outcome != literal_column("'OK'")  # the condition of the index
        if self.start is not None:
            yield _C.at >= self.start
        if self.end is not None:
            yield _C.at < self.end


def _behind(after: tuple[str, ...]) -> Iterator[ColumnElement[bool]]:
    if after:
        at = datetime.fromisoformat(after[0])
        yield _C.at <= at  # what an index can use
        key = tuple_(_C.at, _C.chain_id, _C.chain_position)
        yield key < tuple_(literal(at, _C.at.type), literal(after[1]), literal(int(after[2])))
