"""The composition root: the only place that constructs things."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from nofx_grpc import data_dir
from nofx_grpc.crypto.chain import ChainKey
from nofx_grpc.crypto.envelope import Envelope
from nofx_grpc.errors import StartError
from nofx_grpc.housekeeping import Housekeeping, Keeping
from nofx_grpc.master_key import master_key_text
from nofx_grpc.rpc import refusals
from nofx_grpc.rpc.callers import Callers
from nofx_grpc.rpc.certificates import ClientCertificates
from nofx_grpc.rpc.identity import Tokens
from nofx_grpc.rpc.interceptor import Gate, Limits
from nofx_grpc.rpc.policy import policy_file
from nofx_grpc.rpc.reloading import Looks, Reloading
from nofx_grpc.rpc.server import Server, ServerOptions
from nofx_grpc.rpc.tls import TlsMaterial, server_credentials, tls_files
from nofx_grpc.rpc.usage import UsageLimits
from nofx_grpc.services import build_services
from nofx_grpc.services.backoff import BackoffOptions
from nofx_grpc.services.decision_keeping import DecisionKeeping
from nofx_grpc.services.decision_pruning import Retention
from nofx_grpc.services.feed import Feed
from nofx_grpc.services.logins import LoginOptions
from nofx_grpc.services.pages import Pages
from nofx_grpc.services.subscriptions import FeedOptions
from nofx_grpc.services.system_config import ensure_jwt_secret, lacks_jwt_secret, seed_values
from nofx_grpc.settings import Settings
from nofx_grpc.store.audit_chain import Chain
from nofx_grpc.store.audit_heads import HeadFile, HeadKeeper
from nofx_grpc.store.backend import Backend, backend_for
from nofx_grpc.store.bootstrap import FirstStart, open_store, unlock
from nofx_grpc.store.decisions.database_home import DatabaseHome
from nofx_grpc.store.decisions.file_home import FileHome
from nofx_grpc.store.decisions.folders import Folders
from nofx_grpc.store.engine import Database
from nofx_grpc.store.live_keys import LiveKeys
from nofx_grpc.store.schema import SchemaState, inspect_store

logger = structlog.get_logger(__name__)


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class App:
    """Everything that one process serves with."""

    settings: Settings
    db: Database
    envelope: Envelope
    gate: Gate
    feed: Feed
    server: Server
    housekeeping: Housekeeping
    files: Sequence[Looks]

    async def start(self) -> str:
        """See to what every start owes the open store, and serve; the address that clients use.  Raises StartError."""
        if (await self.db.read(lacks_jwt_secret, self.envelope)).value:
            await self.db.write(ensure_jwt_secret, self.envelope)
            logger.info("jwt_secret_made")
        await self.housekeeping.decisions.home.open()
        return await self.server.start()


def build_app(settings: Settings, clock: Callable[[], datetime] = utc_now) -> App:
    """Open the store, making it at the first start, and build the server.  Raises StartError."""
    db, keys = open_database(settings, clock)
    envelope = keys.envelope
    pages = Pages(envelope, clock, timedelta(hours=settings.page_token_ttl_hours), settings.max_page_bytes)
    limits = Limits(
        settings.max_request_bytes,
        settings.max_request_seconds,
        settings.min_revision_wait_seconds,
        share(refusals.PER_MINUTE, settings),
        usage_limits(settings),
    )
    tls = tls_of(settings)
    policy = policy_file(settings.mtls_policy) if settings.mtls_policy else None
    tokens = Tokens(db, clock)
    certificates = ClientCertificates(tls, policy, clock) if tls and policy else None
    feed = Feed(db, feed_options(settings))
    decisions = decision_keeping(settings, db, clock)
    services = build_services(keys, pages, login_options(settings), feed, decisions)
    gate = Gate(db, envelope, Callers(tokens, certificates), limits)
    server = Server(gate, services, server_options(settings, tls))
    housekeeping = Housekeeping(
        db, feed, tokens, clock, keeping(settings), keys, decisions, retention(settings), gate.refusals
    )
    return App(settings, db, envelope, gate, feed, server, housekeeping, [each for each in (tls, policy) if each])


def open_database(settings: Settings, clock: Callable[[], datetime]) -> tuple[Database, LiveKeys]:
    """The store of these settings, made if it is new, not yet started.  Raises StartError."""
    data_dir.prepare(settings.data_dir)
    with data_dir.locked(settings.data_dir):
        unused = data_dir.is_unused(settings.data_dir)  # asked before the store puts its files there
        backend = database_backend(settings)
        new = inspect_store(backend) is SchemaState.NEW
        master_text = master_key_text(settings, new=unused and new)
        first = FirstStart(seed_values, data_dir.bootstrap_tokens(settings.data_dir / "tokens", os.urandom))
        keys = open_store(backend, master_text, first, clock(), os.urandom)
    if keys.master.derived:
        logger.warning("master_key_is_a_passphrase", advice="32 random bytes in base64 cannot be guessed")
    audit_key = ChainKey(keys.keyring.audit)
    heads = HeadKeeper(HeadFile(settings.audit_head_file, audit_key), clock)
    db = Database(
        backend,
        clock,
        Chain(audit_key, os.urandom, heads.note),
        batch_size=settings.batch_size,
        batch_seconds=settings.batch_milliseconds / 1000,
        lock_timeout=settings.lock_timeout_seconds,
        keys=keys,
        heads=heads,
    )
    return db, keys


def existing_store(settings: Settings) -> tuple[Backend, LiveKeys]:
    """The store of these settings for who only looks: nothing is made or changed.

    Raises StartError if there is none that this release works with.
    """
    check_current(settings)
    backend = database_backend(settings)
    return backend, unlock(backend, master_key_text(settings, new=False))


def check_current(settings: Settings) -> None:
    """Raises StartError, which says what to do, unless there is a database of this release."""
    state = inspect_database(settings)
    if state is SchemaState.NEW:
        raise StartError(
            f"there is no database yet in {settings.data_dir}: run 'nofx-grpc serve' or 'nofx-grpc migrate'"
        )
    if state is SchemaState.OLD:
        raise StartError("the database is of an older release: run 'nofx-grpc migrate' first")


def inspect_database(settings: Settings) -> SchemaState:
    """What the database of these settings is; nothing is made or changed.  Raises StartError if it is not ours."""
    return inspect_store(database_backend(settings))


def database_backend(settings: Settings, url: str | None = None) -> Backend:
    """The backend of these settings, of their database or of another.

    Raises SettingsError, and StartError if the database's directory cannot be used.
    """
    try:
        return backend_for(
            settings.database_url.get_secret_value() if url is None else url,
            lock_timeout=settings.lock_timeout_seconds,
            pool_size=settings.database_pool_size,
            statement_timeout=settings.database_statement_seconds,
            prepared=settings.database_prepared_statements == "on",
        )
    except OSError as error:
        raise StartError(f"the database cannot be opened: {error.filename}: {error.strerror}") from error


def server_options(settings: Settings, tls: Reloading[TlsMaterial] | None = None) -> ServerOptions:
    return ServerOptions(
        settings.listen,
        server_credentials(tls, clients=False) if tls else None,
        settings.mtls_listen or "",
        server_credentials(tls, clients=True) if tls and settings.mtls_listen else None,
        request_bytes=settings.max_request_bytes,
        concurrent_rpcs=settings.max_concurrent_rpcs,
        keepalive_seconds=settings.keepalive_seconds,
        keepalive_timeout_seconds=settings.keepalive_timeout_seconds,
        keepalive_min_ping_seconds=settings.keepalive_min_ping_seconds,
        max_connection_age_seconds=settings.max_connection_age_seconds,
        connections=settings.max_connections,
        shared=settings.workers > 1,
    )


def login_options(settings: Settings) -> LoginOptions:
    return LoginOptions(
        floor_seconds=settings.login_floor_ms / 1000,
        token_ttl=timedelta(minutes=settings.login_token_minutes),
        registration_ttl=timedelta(hours=settings.registration_ttl_hours),
        hash_threads=share(settings.password_hash_concurrency, settings),
        most_waiting=share(settings.password_hash_queue, settings),
        backoff=BackoffOptions(
            of_one=settings.login_tries,
            of_account=settings.login_tries_of_account,
            of_caller=settings.login_tries_of_caller,
            longest=timedelta(seconds=settings.login_wait_seconds),
        ),
    )


def usage_limits(settings: Settings) -> UsageLimits:
    return UsageLimits(
        calls_of_all=settings.max_concurrent_rpcs,
        calls=share(settings.max_calls_per_principal, settings),
        streams=share(settings.max_streams_per_principal, settings),
        reveals_per_second=share(settings.reveals_per_second, settings),
        reveals_at_once=share(settings.reveals_at_once, settings),
    )


def keeping(settings: Settings) -> Keeping:
    return Keeping(
        request_ids=timedelta(hours=settings.request_id_ttl_hours),
        changes=timedelta(hours=settings.watch_log_hours),
        most_changes=settings.watch_log_changes,
    )


def decision_keeping(settings: Settings, db: Database, clock: Callable[[], datetime]) -> DecisionKeeping:
    in_files = settings.decision_logs == "files"
    of_many = settings.database_url.get_secret_value().startswith("postgresql")
    if in_files and of_many and "decision_logs_dir" not in settings.model_fields_set:
        # Right for one server only.  Others of this database would not see its files, and take them for removed.
        logger.warning(
            "decision_logs_of_one_server",
            path=str(settings.decision_logs_dir),
            expected="NOFX_GRPC_DECISION_LOGS=database, or NOFX_GRPC_DECISION_LOGS_DIR where every server sees it",
        )
    home = FileHome(db, Folders(settings.decision_logs_dir), clock) if in_files else DatabaseHome(db)
    return DecisionKeeping(db, home, clock)


def retention(settings: Settings) -> Retention:
    days = settings.decision_logs_days
    age = None if days is None else timedelta(days=days)
    return Retention(age, settings.decision_logs_records, settings.decision_logs_bytes)


def feed_options(settings: Settings) -> FeedOptions:
    return FeedOptions(
        poll_seconds=settings.watch_poll_milliseconds / 1000,
        queue_commits=settings.watch_queue_revisions,
        queue_bytes=settings.watch_queue_bytes,
        bookmark_seconds=settings.watch_bookmark_seconds,
    )


def share(limit: int, settings: Settings) -> int:
    """What one worker may have of a limit that is the whole server's."""
    return -(-limit // settings.workers)


def tls_of(settings: Settings) -> Reloading[TlsMaterial] | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return tls_files(settings.tls_cert, settings.tls_key, settings.mtls_client_ca)
