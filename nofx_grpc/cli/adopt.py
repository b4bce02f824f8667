"""`nofx-grpc adopt`: a database of NOFX into a new store, with a progress bar and a report."""

import os
import shlex
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nofx_grpc import data_dir
from nofx_grpc.app import utc_now
from nofx_grpc.cli.progress import bar
from nofx_grpc.crypto.nofx import derive_key
from nofx_grpc.errors import AdoptionError, InvalidArgument, SettingsError
from nofx_grpc.master_key import master_key_text
from nofx_grpc.redaction import escaped
from nofx_grpc.services import config_keys
from nofx_grpc.services.convert import redacted_url
from nofx_grpc.services.system_config import seed_values
from nofx_grpc.settings import Settings
from nofx_grpc.store.adoption.adopt import Adoption
from nofx_grpc.store.adoption.report import Report
from nofx_grpc.store.adoption.rules import ConfigRules, Keys
from nofx_grpc.store.adoption.source import check_is_database
from nofx_grpc.store.backend import backend_for
from nofx_grpc.store.bootstrap import FirstStart
from nofx_grpc.store.sqlite import SqliteBackend
from nofx_grpc.store.tokens import Token

KEY = "DATA_ENCRYPTION_KEY"
_MOST_SHOWN = 10


def run(settings: Settings, source: Path, to: str, *, in_place: bool) -> Report:
    """Adopt the database at `source`, to the URL `to` or to the store of the settings.  Raises StartError."""
    if to and in_place:
        raise typer.BadParameter("--to and --in-place exclude each other")
    source = source.absolute().resolve()
    target = source if in_place else _path_of(to or settings.database_url.get_secret_value())
    if target == source and not in_place:
        raise AdoptionError(f"{source} cannot be adopted to itself: name another database by --to, or give --in-place")
    check_is_database(source)
    data_dir.prepare(settings.data_dir)
    with data_dir.locked(settings.data_dir), bar() as progress:
        unused = data_dir.is_unused(settings.data_dir)
        adoption = Adoption(
            source=source,
            target=target,
            keys=Keys(_nofx_key(settings), lambda: master_key_text(settings, new=unused)),
            first=FirstStart(seed_values, _tokens(settings, target)),
            rules=config_rules(),
            redacted_url=redacted_url,
            now=utc_now(),
            progress=progress,
        )
        return adoption.run()


def config_rules() -> ConfigRules:
    """What the services know of the system configuration."""
    return ConfigRules(
        known=frozenset(config_keys.KNOWN),
        secret=frozenset(config_keys.SECRETS),
        fault=_fault,
        is_published=config_keys.is_published,
    )


def key_in_env_file(path: Path) -> str:
    """The DATA_ENCRYPTION_KEY of an .env file.  Raises SettingsError if there is none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(f"the env file {path} cannot be read: {reason}") from error
    for line in reversed(lines):  # the last one wins
        name, _, value = line.strip().removeprefix("export ").partition("=")
        if name.strip() == KEY and (value := value.strip()):
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
            return value[1:-1] if quoted else value
    raise SettingsError(f"the env file {path} has no {KEY}")


def show(report: Report, settings: Settings) -> None:
    """Print the report for people."""
    console = Console(highlight=False)
    console.print(
        f"Adopted {escaped(report.source)} to {escaped(report.target)} in {report.seconds:.1f} s.", markup=False
    )
    console.print(_tables(report))
    console.print(_secrets(report))
    for code, problems in report.by_code():
        console.print(f"{problems[0].severity}: {code} ({len(problems)})", markup=False)
        for problem in problems[:_MOST_SHOWN]:
            key = problem.key if isinstance(problem.key, str) else " ".join(problem.key)
            line = " ".join(part for part in (problem.table, key) if part)
            console.print(escaped(f"  {line}: {problem.detail}"), markup=False, soft_wrap=True)
        if len(problems) > _MOST_SHOWN:
            console.print(f"  and {len(problems) - _MOST_SHOWN} more: --json lists them all", markup=False)
    console.print("\nThese files hold secrets in clear. Delete them, or lock them away:", markup=False)
    for file in report.files_with_clear_secrets:
        console.print(escaped(f"  {file.path}: {file.why}"), markup=False, soft_wrap=True)
    console.print(f"\nNext: {escaped(_next_command(report, settings))}", markup=False, soft_wrap=True)


def _next_command(report: Report, settings: Settings) -> str:
    if Path(report.target) == _own_path(settings):
        return "nofx-grpc serve"
    return f"NOFX_GRPC_DATABASE_URL={shlex.quote('sqlite:///' + report.target)} nofx-grpc serve"


def _tables(report: Report) -> Table:
    table = Table("table", title="Rows", title_justify="left")
    for name in ("read", "adopted", "set aside"):
        table.add_column(name, justify="right")
    for name, counts in report.tables.items():
        table.add_row(Text(escaped(name)), str(counts.read), str(counts.adopted), str(counts.set_aside))
    return table


def _secrets(report: Report) -> Table:
    table = Table("secret", title="Secrets, as NOFX had them; all are sealed now", title_justify="left")
    for name in ("encrypted", "clear", "empty", "undecryptable"):
        table.add_column(name, justify="right")
    for name, counts in report.secrets.items():
        row = (counts.encrypted, counts.clear, counts.empty, counts.undecryptable)
        table.add_row(Text(escaped(name)), *map(str, row))
    return table


def _fault(key: str, value: str) -> str:
    try:
        config_keys.check(key, value)
    except InvalidArgument as error:
        return error.violations[0].description
    return ""


def _nofx_key(settings: Settings) -> bytes | None:
    text = settings.data_encryption_key
    return None if text is None else derive_key(text.get_secret_value())


def _tokens(settings: Settings, target: Path) -> Callable[[datetime], list[Token]]:
    """What makes the first tokens; none where those in the data directory belong to the store that is there."""
    directory = settings.data_dir / "tokens"
    own = _own_path(settings)
    if directory.exists() and own != target and (own is None or own.exists()):
        return lambda _: []
    return data_dir.bootstrap_tokens(directory, os.urandom)


def _own_path(settings: Settings) -> Path | None:
    """The file of the settings' store; None if it is on a server."""
    backend = backend_for(settings.database_url.get_secret_value())
    return backend.path.resolve() if isinstance(backend, SqliteBackend) else None


def _path_of(url: str) -> Path:
    backend = backend_for(url)
    if not isinstance(backend, SqliteBackend):
        raise AdoptionError(
            f"a NOFX database is adopted to SQLite, not to {backend.describe()}: give --to sqlite:///path, then run "
            "'nofx-grpc copy-db' from there"
        )
    return backend.path.resolve()
