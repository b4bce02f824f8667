"""The composition root: the only place that constructs things."""

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc

from nofx_grpc.crypto.envelope import Envelope, Location
from nofx_grpc.crypto.keyring import new_master_text
from nofx_grpc.errors import MasterKeyError
from nofx_grpc.rpc.identity import Tokens, new_token_secret, token_hash
from nofx_grpc.rpc.interceptor import Gate, Limits
from nofx_grpc.rpc.server import Server, ServerOptions
from nofx_grpc.services import build_services
from nofx_grpc.services.pages import Pages
from nofx_grpc.settings import Settings
from nofx_grpc.store.backend import backend_for
from nofx_grpc.store.bootstrap import FirstStart, inspect_store, open_store
from nofx_grpc.store.engine import Database
from nofx_grpc.store.schema import SchemaState
from nofx_grpc.store.tokens import Token

ROLES = ("admin", "gateway", "engine", "viewer")


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class App:
    """Everything that one process serves with."""

    settings: Settings
    db: Database
    envelope: Envelope
    server: Server


def build_app(settings: Settings, clock: Callable[[], datetime] = utc_now) -> App:
    """Open the store, making it at the first start, and build the server.  Raises StartError."""
    db, envelope = open_database(settings, clock)
    pages = Pages(envelope, clock, timedelta(hours=settings.page_token_ttl_hours), settings.max_page_bytes)
    limits = Limits(settings.max_request_bytes, settings.min_revision_wait_seconds)
    gate = Gate(db, envelope, Tokens(db, clock), limits)
    options = ServerOptions(settings.listen, server_credentials(settings), settings.max_request_bytes)
    return App(settings, db, envelope, Server(gate, build_services(envelope, pages), options))


def open_database(settings: Settings, clock: Callable[[], datetime]) -> tuple[Database, Envelope]:
    """The store of these settings, made if it is new, not yet started."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    backend = backend_for(settings.database_url.get_secret_value())
    state = inspect_store(backend)
    master_text = master_key_text(settings, new=state is SchemaState.NEW)
    first = FirstStart(default_config, lambda now: bootstrap_tokens(settings.data_dir / "tokens", now))
    keyring, _ = open_store(backend, master_text, first, clock(), os.urandom)
    db = Database(backend, clock, batch_size=settings.batch_size, batch_seconds=settings.batch_milliseconds / 1000)
    return db, Envelope(keyring)


def master_key_text(settings: Settings, *, new: bool) -> str:
    """The master key: from the environment, else the key file, else made, where there is nothing yet that it would
    have to open.
    """
    if settings.data_encryption_key is not None:
        return settings.data_encryption_key.get_secret_value()
    path = settings.master_key_file
    if path.exists():
        return path.read_text()
    if not new:
        raise MasterKeyError(f"there is no master key: set DATA_ENCRYPTION_KEY, or put the key into {path}")
    text = new_master_text(os.urandom)
    write_private(path, text + "\n")
    return text


def default_config(envelope: Envelope) -> dict[str, str]:
    jwt_secret = secrets.token_urlsafe(48)
    return {"jwt_secret": envelope.seal(jwt_secret, Location("system_config", "value", "", "jwt_secret"))}


def bootstrap_tokens(directory: Path, now: datetime) -> list[Token]:
    """One token per role, each in a file of its own; they work on loopback and Unix sockets only."""
    directory.mkdir(mode=0o700, exist_ok=True)
    made = []
    for role in ROLES:
        secret = new_token_secret()
        write_private(directory / role, secret)
        made.append(
            Token(
                f"bootstrap-{role}",
                token_hash(secret),
                f"first start: {role}",
                role,
                "",
                False,
                False,
                True,
                now,
                None,
                None,
                None,
            )
        )
    return made


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def server_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return grpc.ssl_server_credentials([(settings.tls_key.read_bytes(), settings.tls_cert.read_bytes())])
