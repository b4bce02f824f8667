"""Where a run of Watch takes place, and what is known of it."""

import random
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nofx_grpc.services.watch_messages import change_to_proto
from nofx_grpc.store.changes import Change
from nofx_grpc.v1 import watch_pb2 as pb
from tests.support.watch_checks import Told, Truth, Watched
from tests.support.watching import shown_resource

USERS = 4


class Place(Protocol):
    """A server that may be somewhere else after a misfortune."""

    @property
    def address(self) -> str: ...
    def token(self, role: str) -> str: ...
    @property
    def database(self) -> Path: ...


@dataclass
class Run:
    """The state of a run.  `log` is filled before anything is compacted, so that it holds every change."""

    place: Place
    random: random.Random
    truth: Truth = field(default_factory=lambda: Truth({}))
    watchers: list[Watched] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)  # ids of tokens that may be revoked
    refused: Counter[str] = field(default_factory=Counter)  # streams that could not be resumed, by reason
    writes: int = 0

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """What the database holds, past the service."""
        with closing(sqlite3.connect(self.place.database, timeout=10)) as connection:
            return connection.execute(sql, parameters).fetchall()

    def execute(self, *statements: tuple[str, *tuple[object, ...]]) -> None:
        """Change the database past the service, in one transaction."""
        with closing(sqlite3.connect(self.place.database, timeout=10)) as connection, connection:
            for sql, *parameters in statements:
                connection.execute(sql, parameters)

    def revision(self) -> int:
        return int(self.rows("SELECT revision FROM store_state")[0][0])

    def read_log(self) -> None:
        """Take over what the log holds and is not known yet."""
        known = max(self.truth.log, default=0)
        sql = "SELECT revision, kind, user_id, id, operation, resource FROM change_log WHERE revision > ?"
        for revision, *change in self.rows(f"{sql} ORDER BY revision, ordinal", known):
            self.truth.log.setdefault(revision, []).append(told_change(change_to_proto(Change(*change))))


def told_change(change: pb.Change) -> Told:
    content = change.resource.SerializeToString(deterministic=True) if change.HasField("resource") else b""
    return Told(change.kind, change.user_id, change.id, change.operation, content)


def told_resource(kind: int, resource: pb.Resource) -> Told:
    """A resource of an initial state; its key is made as those of changes are."""
    shown: Any = shown_resource(resource)
    id = next(getattr(shown, name) for name in ("id", "key", "code", "user_id") if hasattr(shown, name))
    user_id = id if kind == pb.RESOURCE_KIND_USER else getattr(shown, "user_id", "")
    return Told(kind, user_id, id, 0, resource.SerializeToString(deterministic=True))


# ---- writers
