"""A store to test: made anew, opened as often as a test likes, its writer's transactions watched and disturbed."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, event

from nofx_grpc.crypto.chain import ChainKey
from nofx_grpc.crypto.envelope import Envelope
from nofx_grpc.crypto.keyring import Keyring
from nofx_grpc.store import exchanges, models, traders, users
from nofx_grpc.store.audit_chain import Chain
from nofx_grpc.store.backend import Backend, backend_for
from nofx_grpc.store.bootstrap import FirstStart, open_store
from nofx_grpc.store.engine import Database
from nofx_grpc.store.exchanges import Exchange
from nofx_grpc.store.models import Model
from nofx_grpc.store.resources import UNWRITTEN, Record
from nofx_grpc.store.traders import Trader
from nofx_grpc.store.users import User
from tests.support.clock import FakeClock
from tests.support.postgresql import Copies, shared_server

R = TypeVar("R", bound=Record)

ROOT = Path(__file__).parents[2]
MASTER_KEY = "11" * 32
FIRST_START = FirstStart(config=lambda envelope: {"beta_mode": "false"}, tokens=lambda now: [])


@dataclass(frozen=True)
class Store:
    """A migrated database.  `connect` gives a backend that shares nothing with the others, as another process would."""

    url: str
    clock: FakeClock
    keyring: Keyring
    connect: Callable[[], Backend]

    @property
    def engine(self) -> str:
        return self.connect().name

    @property
    def envelope(self) -> Envelope:
        return Envelope(self.keyring)

    def chain(self) -> Chain:
        """The chain of a writer of its own."""
        return Chain(ChainKey(self.keyring.audit), os.urandom)

    @asynccontextmanager
    async def open(self, backend: Backend | None = None, **options: Any) -> AsyncIterator[Database]:
        """A database that is open until the block ends."""
        database = Database(backend or self.connect(), self.clock, self.chain(), **options)
        database.open()
        try:
            yield database
        finally:
            await database.close()

    @contextmanager
    def outside(self) -> Iterator[Connection]:
        """A writing connection past the store, in autocommit mode."""
        connection = self.connect().open_writer()
        try:
            yield connection
        finally:
            connection.close()


def make_sqlite(directory: Path, clock: FakeClock) -> Store:
    return make_store(f"sqlite:///{directory / 'nofx.db'}", clock)


@cache
def _copies() -> Copies:
    return Copies(shared_server(), lambda url: make_store(url, FakeClock()))


@contextmanager
def empty_postgresql() -> Iterator[str]:
    """The URL of a database that holds nothing, on the shared server."""
    server = shared_server()
    name = server.create()
    try:
        yield server.url(name)
    finally:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def postgresql_store(clock: FakeClock) -> Iterator[Store]:
    """A store on the shared server."""
    with _copies().copy() as name:
        yield make_store(shared_server().url(name), clock)


def make_store(url: str, clock: FakeClock) -> Store:
    def connect() -> Backend:
        return backend_for(url, lock_timeout=0.3)

    keyring = open_store(connect(), MASTER_KEY, FIRST_START, clock(), os.urandom).keyring
    return Store(url, clock, keyring, connect)


@dataclass
class Watched:
    """A backend whose writer's statements are counted, and disturbed by whatever a test puts into `before`."""

    backend: Backend
    statements: list[str] = field(default_factory=list)
    before: dict[str, Callable[[], None]] = field(default_factory=dict)  # statement -> what happens first
    connections: list[Connection] = field(default_factory=list)
    uncertain: bool = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def open_writer(self) -> Connection:
        connection = self.backend.open_writer()
        event.listen(connection, "before_cursor_execute", self._note)
        self.connections.append(connection)
        return connection

    def commit_is_uncertain(self, error: Any) -> bool:
        return self.uncertain

    def count(self, statement: str) -> int:
        return self.statements.count(statement)

    def _note(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        last = statement.rpartition("; ")[2]  # before a COMMIT there may be a NOTIFY
        self.statements.append(last)
        self.before.get(last, lambda: None)()


BLANK: dict[Any, Any] = {str: "", bool: False, int: 1, float: 1.0, datetime | None: None, int | None: None}


def draft(record: type[R], **fields: Any) -> R:
    """A record with nothing in it but what is given; its revision and times are for the store to set."""
    blank = {field.name: BLANK.get(field.type) for field in dataclasses.fields(record)}
    unwritten = {name: value for name, value in UNWRITTEN.items() if name in blank}
    return record(**blank | unwritten | fields)


def user(id: str = "ada", **fields: Any) -> User:
    return draft(User, **{"id": id, "email": f"{id}@example.com", "email_key": f"{id}@example.com"} | fields)


def exchange(id: str = "binance", user_id: str = "ada", **fields: Any) -> Exchange:
    return draft(Exchange, **{"id": id, "user_id": user_id, "name": "Binance", "type": "cex"} | fields)


def model(id: str = "ada_qwen", user_id: str = "ada", **fields: Any) -> Model:
    return draft(Model, **{"id": id, "user_id": user_id, "name": "Qwen", "provider": "qwen"} | fields)


def trader(id: str = "t1", user_id: str = "ada", **fields: Any) -> Trader:
    names = {"id": id, "user_id": user_id, "name": "Trader", "ai_model_id": "ada_qwen", "exchange_id": "binance"}
    return draft(Trader, **names | fields)


def create_all(connection: Connection) -> None:
    """A user with a model, an exchange and a trader, at one revision."""
    users.resource.create(connection, user())
    models.resource.create(connection, model())
    exchanges.resource.create(connection, exchange())
    traders.resource.create(connection, trader())


def run_python(program: str, *arguments: str) -> str:
    """What a Python program, started as a process of its own, prints."""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
