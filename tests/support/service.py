"""A real server in this process, over a data directory of its own; and clients of every role."""

import atexit
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from nofx_grpc.app import App, build_app, open_database, utc_now
from nofx_grpc.crypto.tokens import new_token_secret, token_hash
from nofx_grpc.settings import Settings
from nofx_grpc.store import tokens
from nofx_grpc.store.tables import metadata
from nofx_grpc.store.tokens import Token
from nofx_grpc.v1 import (
    admin_pb2_grpc,
    beta_codes_pb2_grpc,
    decision_logs_pb2_grpc,
    exchanges_pb2_grpc,
    models_pb2_grpc,
    signal_sources_pb2_grpc,
    system_config_pb2_grpc,
    traders_pb2_grpc,
    users_pb2_grpc,
    watch_pb2_grpc,
)
from tests.support.clock import FakeClock
from tests.support.postgresql import Copies, shared_server


class _Metadata:
    """Adds the same metadata to every call."""

    def __init__(self, metadata: Mapping[str, str]) -> None:
        self._metadata = metadata

    def added_to(self, details: Any) -> Any:
        metadata = grpc.aio.Metadata(*(details.metadata or ()), *self._metadata.items())
        return details._replace(metadata=metadata)


class _Unary(_Metadata, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(self.added_to(client_call_details), request)


class _ClientStream(_Metadata, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(self.added_to(client_call_details), request_iterator)


class _ServerStream(_Metadata, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(self.added_to(client_call_details), request)


class Client:
    """A channel with one token, or a certificate, and a stub for each service."""

    def __init__(
        self, address: str, token: str | None, tls: grpc.ChannelCredentials | None = None, **metadata: str
    ) -> None:
        if token is not None:
            metadata["authorization"] = f"Bearer {token}"
        # grpc.aio takes each interceptor for one kind of call only.
        interceptors: list[grpc.aio.ClientInterceptor] = [
            _Unary(metadata),
            _ClientStream(metadata),
            _ServerStream(metadata),
        ]
        # A connection of its own, which may lead to another worker than those of others.
        options = [("grpc.use_local_subchannel_pool", 1)]
        if tls is None:
            self.channel = grpc.aio.insecure_channel(address, options=options, interceptors=interceptors)
        else:
            self.channel = grpc.aio.secure_channel(address, tls, options=options, interceptors=interceptors)
        self.users = users_pb2_grpc.UsersStub(self.channel)
        self.models = models_pb2_grpc.ModelsStub(self.channel)
        self.exchanges = exchanges_pb2_grpc.ExchangesStub(self.channel)
        self.signal_sources = signal_sources_pb2_grpc.SignalSourcesStub(self.channel)
        self.traders = traders_pb2_grpc.TradersStub(self.channel)
        self.system_config = system_config_pb2_grpc.SystemConfigStub(self.channel)
        self.beta_codes = beta_codes_pb2_grpc.BetaCodesStub(self.channel)
        self.decision_logs = decision_logs_pb2_grpc.DecisionLogsStub(self.channel)
        self.admin = admin_pb2_grpc.AdminStub(self.channel)
        self.watch = watch_pb2_grpc.WatchStub(self.channel)

    async def close(self) -> None:
        await self.channel.close()


@dataclass
class RunningService:
    """A running server and what a test needs to look behind it."""

    app: App
    address: str
    data_dir: Path
    clients: list[Client]

    def client(self, role: str = "admin", *, token: str | None = None, **metadata: str) -> Client:
        """A client with the bootstrap token of a role, or with `token`."""
        client = Client(self.address, token or self.token(role), None, **metadata)
        self.clients.append(client)
        return client

    def client_by_tls(self, tls: grpc.ChannelCredentials, token: str | None = None, address: str = "") -> Client:
        """A client with a certificate at the listener for those, or over TLS at another address."""
        client = Client(address or self.app.server.mtls_address, token, tls)
        self.clients.append(client)
        return client

    def anonymous(self) -> Client:
        client = Client(self.address, None)
        self.clients.append(client)
        return client

    def token(self, role: str) -> str:
        return (self.data_dir / "tokens" / role).read_text()

    async def make_token(self, role: str, user_id: str = "", **fields: Any) -> str:
        """A token of its own, limited to one user if one is given; `fields` are those of the stored token."""
        secret = new_token_secret(os.urandom)
        made = Token(
            id=secret[-8:],
            hash=token_hash(secret),
            display_name="test",
            role=role,
            user_id=user_id,
            reveal=False,
            reveal_system=False,
            bootstrap=False,
            created_at=datetime.now(UTC),
            expires_at=None,
            revoked_at=None,
            last_used_at=None,
        )
        await self.app.db.write(tokens.insert, replace(made, **fields))
        return secret

    async def add_users(self, *ids: str) -> None:
        """Users who own what a test makes, and cannot log in."""
        for id in ids:
            await self.execute("INSERT INTO users (id, email, email_key, revision) VALUES (?, ?, ?, 1)", id, id, id)

    async def execute(self, sql: str, *parameters: object) -> None:
        """Run a statement in the writer's transaction, past the service."""
        await self.app.db.write(lambda connection: connection.exec_driver_sql(*self._for_driver(sql, parameters)))

    async def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """What a query finds in the database, past the service."""
        found = await self.app.db.scan(
            lambda connection: connection.exec_driver_sql(*self._for_driver(sql, parameters)).fetchall()
        )
        return [tuple(row) for row in found.value]

    def _for_driver(self, sql: str, parameters: tuple[object, ...]) -> tuple[str, tuple[object, ...]]:
        """Each driver has its own mark for a parameter; tests write '?'."""
        on_sqlite = self.app.settings.database_url.get_secret_value().startswith("sqlite")
        return (sql if on_sqlite else sql.replace("%", "%%").replace("?", "%s")), parameters

    async def revision(self) -> int:
        return int((await self.rows("SELECT revision FROM store_state"))[0][0])

    @asynccontextmanager
    async def nothing_written(self) -> AsyncIterator[None]:
        """What is done in this block must leave every table as it was but those that note a refusal."""
        before = await self.contents()
        yield
        assert await self.contents() == before

    async def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table but the audit log and the count of tries at logging in."""
        names = metadata.tables.keys() - {"audit_log", "login_tries"}
        return {name: await self.rows(f"SELECT * FROM {name}") for name in sorted(names)}  # noqa: S608 - our own tables

    async def last_record(self, *columns: str) -> tuple[Any, ...]:
        """What these columns of the newest audit record hold."""
        found = await self.app.db.scan(
            lambda connection: connection.exec_driver_sql(
                "SELECT * FROM audit_log ORDER BY chain_position DESC LIMIT 1"
            ).one()
        )
        return tuple(getattr(found.value, column) for column in columns)


@asynccontextmanager
async def running_service(
    data_dir: Path, *, clock: Callable[[], datetime] = utc_now, env: Mapping[str, str] | None = None
) -> AsyncIterator[RunningService]:
    """Serve the data directory, which is made if it is new, until the block ends."""
    defaults = {"NOFX_GRPC_DATA_DIR": str(data_dir), "NOFX_GRPC_LISTEN": "127.0.0.1:0", "NOFX_GRPC_LOGIN_FLOOR_MS": "0"}
    app = build_app(Settings.load(None, defaults | dict(env or {})), clock)
    app.db.open()
    address = await app.start()
    service = RunningService(app, address, data_dir, [])
    try:
        yield service
    finally:
        for client in service.clients:
            await client.close()
        await app.server.stop(0)
        await app.db.close()


def new_sqlite(data_dir: Path) -> None:
    """Put a new store's data directory here."""
    shutil.copytree(_sqlite_template(), data_dir)


@cache
def _sqlite_template() -> Path:
    """A data directory with its database, as the first start leaves them."""
    directory = tempfile.TemporaryDirectory(prefix="nofx-sqlite-")
    atexit.register(directory.cleanup)
    data_dir = Path(directory.name) / "data-dir"
    open_database(Settings.load(None, {"NOFX_GRPC_DATA_DIR": str(data_dir)}), FakeClock())
    return data_dir


@contextmanager
def new_postgresql(data_dir: Path) -> Iterator[dict[str, str]]:
    """The settings for a new store on PostgreSQL whose data directory is put here."""
    made, copies = _postgresql_template()
    shutil.copytree(made, data_dir)
    with copies.copy() as name:
        yield {"NOFX_GRPC_DATABASE_URL": shared_server().url(name)}


@cache
def _postgresql_template() -> tuple[Path, Copies]:
    """A data directory and its database, as the first start leaves them."""
    data_dir = shared_server().directory / "data-dir"

    def make(url: str) -> None:
        env = {"NOFX_GRPC_DATA_DIR": str(data_dir), "NOFX_GRPC_DATABASE_URL": url}
        open_database(Settings.load(None, env), FakeClock())

    return data_dir, Copies(shared_server(), make)


@dataclass(frozen=True)
class Refusal:
    """An error as a client in any language sees it."""

    code: grpc.StatusCode
    text: str
    reason: str
    metadata: Mapping[str, str]
    violations: Mapping[str, str]
    retry_seconds: float | None


async def refused(call: Awaitable[Any], code: grpc.StatusCode, reason: str) -> Refusal:
    """Await a call that must fail with this code and reason."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    refusal = refusal_of(caught.value)
    assert (refusal.code, refusal.reason) == (code, reason), refusal.text
    return refusal


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    trailing = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailing.get("grpc-status-details-bin", b""))
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    for detail in status.details:
        for message in (info, bad, retry):
            detail.Unpack(message)
    assert status.message == (error.details() or ""), "the status details must say what the status says"
    return Refusal(
        error.code(),
        error.details() or "",
        info.reason,
        dict(info.metadata),
        {violation.field: violation.description for violation in bad.field_violations},
        retry.retry_delay.ToTimedelta().total_seconds() if retry.HasField("retry_delay") else None,
    )
