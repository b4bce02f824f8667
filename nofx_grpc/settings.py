"""Every setting: its name, default, meaning and check.  Longer than 300 lines: it is read as one list.

A value comes from the environment (``NOFX_GRPC_<NAME>``), else from the TOML file of ``--config`` (``<name>``), else it
is the default.  An empty variable counts as not set.  Relative paths are relative to the working directory.  Unknown
variables are none of our business: Kubernetes makes some that begin with the name of the service.

Nothing is read on import: `Settings.load` is handed the file and the environment, and reports every problem at once.
pydantic is slow to import, so the command imports this module only where it is needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo

from nofx_grpc.address import DEFAULT_LISTEN, UNIX, check_address, is_local
from nofx_grpc.errors import SettingsError
from nofx_grpc.pem import belong_together, certificates_in
from nofx_grpc.setting_problems import check_command_line, problem, read_toml, several_master_keys, unknown

PREFIX = "NOFX_GRPC_"
# These keep the name that they have in NOFX.
UNPREFIXED = {"data_encryption_key"}
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting as the documentation shows it."""

    name: str
    default: str
    meaning: str


class Settings(BaseModel):
    """The settings, checked.  Raises pydantic's ValidationError; `load` puts it into words."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)

    data_dir: Path = Field(
        Path("data"),
        description="Directory of the database, the keys and the first tokens; made at first start.",
        json_schema_extra={"shown": "./data"},
    )
    database_url: SecretStr = Field(
        default_factory=lambda data: SecretStr(f"sqlite:///{data['data_dir'] / 'nofx.db'}"),
        description="Where the database is: `sqlite:///path`, or "
        "`postgresql+psycopg://user:password@host:port/database` with libpq's parameters (see docs/operations.md).",
        json_schema_extra={"shown": "sqlite:///<data dir>/nofx.db"},
    )
    database_pool_size: int = Field(
        10,
        ge=1,
        le=1000,
        description="PostgreSQL: connections that read at one time; to them come four of each process.",
    )
    database_statement_seconds: float = Field(
        30, ge=0.1, le=3600, description="PostgreSQL: how long a statement may take, and a read wait for a connection."
    )
    database_prepared_statements: Literal["on", "off"] = Field(
        "on",
        description="PostgreSQL: `off` behind a pooler in transaction mode that does not keep prepared statements.",
    )
    master_key_file: Path = Field(
        default_factory=lambda data: data["data_dir"] / "master.key",
        description="File of the master key where `DATA_ENCRYPTION_KEY` is not set; made at first start.",
        json_schema_extra={"shown": "<data dir>/master.key"},
    )
    data_encryption_key: SecretStr | None = Field(
        None,
        description="The master key, which opens the keyring; for an adopted database the key that NOFX ran with, in "
        "any form that NOFX takes. Not set: the master key file.",
    )
    master_key_command: Annotated[str, AfterValidator(check_command_line)] | None = Field(
        None,
        description="Command that prints the master key, run at the start, by no shell: to take it from Vault or a "
        "cloud's KMS. In place of `DATA_ENCRYPTION_KEY` and the file.",
    )
    master_key_command_seconds: float = Field(30, ge=1, le=600, description="How long that command may take.")
    audit_head_file: Path = Field(
        default_factory=lambda data: data["data_dir"] / "audit.head",
        description="File of the heads of the audit log's chains, which tells that it was cut off: best on another "
        "disk than the database; processes on one machine share it.",
        json_schema_extra={"shown": "<data dir>/audit.head"},
    )
    # `tls_key` looks at `tls_cert`, and `listen` looks at both: a check sees only the fields before its own.
    tls_cert: Path | None = Field(None, description="PEM file: the server's certificate and those that signed it.")
    tls_key: Path | None = Field(None, description="PEM file: the private key of the certificate, not encrypted.")
    listen: str = Field(
        DEFAULT_LISTEN,
        description="Address to serve on: `host:port`, `[::1]:port` or `unix:path`; port 0 takes a free one. "
        "Addresses beyond loopback need TLS.",
    )
    mtls_client_ca: Path | None = Field(
        None, description="PEM file: who signs the certificates of clients that call at `NOFX_GRPC_MTLS_LISTEN`."
    )
    mtls_policy: Path | None = Field(
        None, description="TOML file: what the names in client certificates are good for (see docs/security.md)."
    )
    mtls_listen: str | None = Field(
        None,
        description="Address for clients that show a certificate, beside `NOFX_GRPC_LISTEN`. Needs the server's "
        "certificate and key, the clients' authority and the policy.",
    )
    workers: int = Field(
        1, ge=1, le=256, description="Processes that serve the address together; more than one need `host:port`."
    )

    max_request_bytes: int = Field(
        4 * MIB, ge=1024, le=64 * MIB, description="Largest request accepted; most rpcs accept less."
    )
    max_request_seconds: float = Field(
        30,
        ge=0.1,
        le=3600,
        description="How long a request may take to arrive, once its call has begun; each message of an upload too.",
    )
    max_page_bytes: int = Field(
        2 * MIB, ge=1024, le=64 * MIB, description="A page of a list ends before it grows beyond this."
    )
    max_concurrent_rpcs: int = Field(
        1024, ge=1, le=100_000, description="Calls in progress at one time; one more is refused."
    )
    max_calls_per_principal: int = Field(
        default_factory=lambda data: max(1, data["max_concurrent_rpcs"] * 3 // 4),
        ge=1,
        le=100_000,
        description="Calls of one principal (a token, a certificate) in progress at one time; one more is refused.",
        json_schema_extra={"shown": "three quarters of the above"},
    )
    max_streams_per_principal: int = Field(
        default_factory=lambda data: max(1, data["max_concurrent_rpcs"] // 2),
        ge=1,
        le=100_000,
        description="Streams among these.",
        json_schema_extra={"shown": "half of all calls"},
    )
    reveals_per_second: int = Field(
        200, ge=1, le=1_000_000, description="Reveals of one principal a second; a stream counts once."
    )
    reveals_at_once: int = Field(
        10_000, ge=1, le=10_000_000, description="Reveals that a principal may make at once after a rest."
    )
    max_connections: int = Field(
        2048,
        ge=1,
        le=1_000_000,
        description="Connections at each address, of each worker; one more is closed. Fewer if files are short.",
    )
    keepalive_seconds: float = Field(60, ge=1, le=7200, description="A silent connection is pinged this often.")
    keepalive_timeout_seconds: float = Field(
        20, ge=1, le=600, description="A connection that leaves a ping unanswered for this long is closed."
    )
    keepalive_min_ping_seconds: float = Field(
        10, ge=1, le=7200, description="A client that pings more often than this is disconnected."
    )
    max_connection_age_seconds: float | None = Field(
        None,
        ge=1,
        le=604_800,
        description="A connection as old as this takes no new calls, so that clients look for replicas anew; calls in "
        "progress go on. Not set: connections live as long as they are used.",
    )
    min_revision_wait_seconds: float = Field(
        5, ge=0, le=60, description="How long a read waits for the revision of `nofx-min-revision`."
    )
    shutdown_grace_seconds: float = Field(
        10, ge=0, le=600, description="How long calls in progress may go on after SIGTERM."
    )

    request_id_ttl_hours: int = Field(
        24, ge=1, le=720, description="How long a repeated `request_id` gets the first answer."
    )
    page_token_ttl_hours: int = Field(24, ge=1, le=720, description="How long a page token is valid.")
    batch_milliseconds: float = Field(
        5, ge=0, le=1000, description="How long a write waits for others to be committed with it."
    )
    lock_timeout_seconds: float = Field(
        5, ge=0.1, le=60, description="How long a write waits while another process holds the database."
    )
    batch_size: int = Field(128, ge=1, le=10_000, description="How many writes are committed together at most.")

    watch_poll_milliseconds: int = Field(
        200, ge=10, le=60_000, description="How often the change log is looked at for what other processes wrote."
    )
    watch_queue_revisions: int = Field(
        1000, ge=1, le=1_000_000, description="How many revisions a watcher may be behind before its stream ends."
    )
    watch_queue_bytes: int = Field(
        8 * MIB, ge=1024, le=1024 * MIB, description="How many bytes a watcher may be behind before its stream ends."
    )
    watch_bookmark_seconds: float = Field(
        10, ge=0.05, le=3600, description="After this long without a change a watcher is told the revision."
    )
    watch_log_hours: float = Field(
        24, ge=0, le=8760, description="How long changes are kept for watchers who come back."
    )
    watch_log_changes: int = Field(
        100_000, ge=0, le=100_000_000, description="How many changes are kept for watchers who come back."
    )

    decision_logs: Literal["files", "database"] = Field(
        "files",
        description="Where decision records are: in `files`, or in the `database`, for many replicas.",
    )
    decision_logs_dir: Path = Field(
        default_factory=lambda data: data["data_dir"] / "decision_logs",
        description="Directory of the decision records, one folder for each trader, as NOFX has it.",
        json_schema_extra={"shown": "<data dir>/decision_logs"},
    )
    decision_logs_days: float | None = Field(
        None, gt=0, le=36_500, description="How long decision records are kept. Not set: for good."
    )
    decision_logs_records: int | None = Field(None, ge=1, description="Most decision records of a trader.")
    decision_logs_bytes: int | None = Field(None, ge=1, description="Most bytes of decision records of a trader.")

    login_floor_ms: int = Field(
        500, ge=0, le=10_000, description="A login takes at least this long, whatever is wrong with it."
    )
    login_token_minutes: int = Field(5, ge=1, le=60, description="Time for the second step of a login.")
    password_hash_concurrency: int = Field(2, ge=1, le=64, description="Passwords hashed at one time.")
    password_hash_queue: int = Field(
        64, ge=1, le=10_000, description="Logins that are checked or wait for it at one time; one more is refused."
    )
    login_tries: int = Field(
        5, ge=1, le=1000, description="Failed logins to one account by one caller before the next ones have to wait."
    )
    login_tries_of_account: int = Field(
        20, ge=1, le=100_000, description="The same for one account, whoever calls, but for who logged in before."
    )
    login_tries_of_caller: int = Field(
        100, ge=1, le=1_000_000, description="The same for one caller, whatever account; one is forgotten every 6 s."
    )
    login_wait_seconds: float = Field(
        300, ge=1, le=86_400, description="The longest wait; it begins at a second and doubles with each failure."
    )
    registration_ttl_hours: int = Field(24, ge=1, le=720, description="Time to complete a registration.")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["json", "console"] | None = Field(
        None,
        description="`json`: one object a line; `console`: for people. Not set: `console` on a terminal, else `json`.",
    )

    @field_validator("log_level", "log_format", "database_prepared_statements", mode="before")
    @classmethod
    def _fold_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: SecretStr) -> SecretStr:
        scheme, _, rest = value.get_secret_value().partition("://")
        # Each connection to ":memory:" would see a database of its own.
        if scheme == "sqlite" and rest.startswith("/") and rest not in {"/", "/:memory:"}:
            return value
        if scheme in {"postgresql+psycopg", "postgresql"} and rest:  # what follows is the driver's to judge
            return value
        raise ValueError("sqlite:///path, or postgresql+psycopg://user:password@host:port/database")

    @field_validator("tls_cert", "mtls_client_ca")
    @classmethod
    def _check_certificates(cls, value: Path | None) -> Path | None:
        if value is not None:
            certificates_in(_content(value))
        return value

    @field_validator("tls_key")
    @classmethod
    def _check_tls_key(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        key = _content(value) if value is not None else b""
        if "tls_cert" not in info.data:  # it has a problem of its own
            return value
        cert = info.data["tls_cert"]
        if cert is None and value is not None:
            raise ValueError(f"{variable('tls_cert')} to be set too")
        if cert is not None and not belong_together(_content(cert), key):
            raise ValueError(f"the private key, not encrypted, of the certificate in {variable('tls_cert')}")
        return value

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, value: str, info: ValidationInfo) -> str:
        check_address(value)
        # A certificate that its own check refused is missing from `data`: TLS was meant.
        plaintext = "tls_cert" in info.data and info.data["tls_cert"] is None
        if plaintext and not is_local(value):
            raise ValueError(
                "a loopback address or unix:path, because it is plaintext: "
                f"set {variable('tls_cert')} and {variable('tls_key')} to serve others"
            )
        return value

    @field_validator("mtls_listen")
    @classmethod
    def _check_mtls_listen(cls, value: str | None, info: ValidationInfo) -> str | None:
        needed = ("tls_cert", "mtls_client_ca", "mtls_policy")
        if value is None:
            if useless := [variable(name) for name in needed[1:] if info.data.get(name) is not None]:
                raise ValueError(f"an address, because {useless[0]} is for the listener there")
            return value
        if missing := [variable(name) for name in needed if name in info.data and info.data[name] is None]:
            raise ValueError(f"{' and '.join(missing)} to be set too")
        if check_address(value) == info.data.get("listen") and not value.endswith(":0"):
            raise ValueError(f"another address than {variable('listen')}")
        return value

    @field_validator("workers")
    @classmethod
    def _check_workers(cls, value: int, info: ValidationInfo) -> int:
        sockets = [n for n in ("listen", "mtls_listen") if str(info.data.get(n, "")).startswith(UNIX)]
        if value > 1 and sockets:
            raise ValueError(
                f"1, because {variable(sockets[0])} is a Unix socket, which only one process can serve: "
                "several share an address host:port"
            )
        return value

    @classmethod
    def load(cls, config: Path | None, env: Mapping[str, str]) -> Self:
        """Return the settings of the file and the environment.  Raises SettingsError with every problem, one a line."""
        in_file = read_toml(config) if config else {}
        in_env = {name: env[variable(name)] for name in cls.model_fields if env.get(variable(name))}
        problems = [f"{config}: {unknown(key, cls.model_fields)}" for key in in_file if key not in cls.model_fields]
        where = {name: f"{config}: {name}" for name in in_file} | {name: variable(name) for name in in_env}
        problems += several_master_keys(where)
        settings = None
        try:
            settings = cls.model_validate({k: v for k, v in in_file.items() if k in cls.model_fields} | in_env)
        except ValidationError as error:
            for detail in error.errors():
                name = str(detail["loc"][0])
                # A default made of other settings is not wrong of itself: they are.
                if detail["type"] != "default_factory_not_called":
                    problems.append(problem(where.get(name, variable(name)), cls.model_fields[name], detail))
        # Not inside the `except`: pydantic's error holds the values, and there are secrets among them.
        if problems or settings is None:
            raise SettingsError("\n".join(problems))
        return settings

    @classmethod
    def describe(cls) -> list[SettingRow]:
        """Return one row for each setting, in the order of the fields."""
        return [
            SettingRow(variable(name), _shown_default(field), field.description or "")
            for name, field in cls.model_fields.items()
        ]


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return ("" if name in UNPREFIXED else PREFIX) + name.upper()


def _shown_default(field: FieldInfo) -> str:
    if isinstance(field.json_schema_extra, dict):
        return str(field.json_schema_extra["shown"])
    default = field.get_default()
    return "" if default is None else f"{default:g}" if isinstance(default, float) else str(default)


def _content(path: Path) -> bytes:
    """Return the file's content.  Raises ValueError, as the checks do, if there is none to be had."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"a file that can be read ({error.strerror})") from error
