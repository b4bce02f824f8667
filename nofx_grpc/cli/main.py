"""The command `nofx-grpc`: its subcommands and its exit codes.

What is dear to import (the server, the settings) is imported by the subcommand that needs it: `nofx-grpc health` runs
every few seconds.
"""

import os
import sys
import traceback
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nofx_grpc import __version__
from nofx_grpc.errors import NofxError, StartError, StoreFull, Unavailable

if TYPE_CHECKING:
    from nofx_grpc.settings import Settings

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_CANNOT_START = 3
EXIT_INTERNAL = 70
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="nofx-grpc",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

token_app = typer.Typer(no_args_is_help=True, help="Tokens of the callers.", rich_markup_mode=None)
app.add_typer(token_app, name="token")

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="A TOML file of settings; the environment wins.")
]

Json = Annotated[bool, typer.Option("--json", help="Report as JSON on standard output.")]


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        app(args=arguments, prog_name="nofx-grpc")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else EXIT_FAILED
    except NofxError as error:
        return _report(error, json_wanted="--json" in arguments)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception:  # noqa: BLE001  # the exit code must not be that of a failed check
        traceback.print_exc()  # a mistake of ours: whoever mends it needs to see where
        return EXIT_INTERNAL
    return EXIT_OK


def _report(error: NofxError, *, json_wanted: bool) -> int:
    """Say on standard error why nothing was done, and with --json on standard output, too; the exit code."""
    from nofx_grpc.redaction import escaped

    for line in error.message.splitlines():
        print(f"nofx-grpc: {escaped(line)}", file=sys.stderr)
    if json_wanted:
        _print_json({"error": {"reason": error.reason, "message": error.message}})
    return EXIT_CANNOT_START if isinstance(error, StartError | Unavailable | StoreFull) else EXIT_FAILED


def _print_json(report: Mapping[str, object]) -> None:
    import json

    print(json.dumps(report))


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"nofx-grpc {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """The configuration and secrets service of NOFX."""


@app.command()
def serve(
    config: Config = None,
    listen: Annotated[
        str, typer.Option(metavar="ADDRESS", help="host:port or unix:path, in place of NOFX_GRPC_LISTEN.")
    ] = "",
) -> None:
    """Serve until SIGTERM or SIGINT."""
    from nofx_grpc import lifecycle
    from nofx_grpc.cli.announce import announce

    lifecycle.serve(_load(config, listen), announce)


@app.command()
def migrate(config: Config = None, json: Json = False) -> None:
    """Bring the database to the schema of this release, making it if there is none."""
    from nofx_grpc.cli import migration

    report = migration.run(_load(config))
    if json:
        _print_json(report)
    else:
        print(f"{report['database']}: {report['was']}, now at schema {report['schema']}")


@app.command()
def health(
    config: Config = None,
    address: Annotated[
        str, typer.Option(metavar="ADDRESS", help="host:port or unix:path, in place of NOFX_GRPC_LISTEN.")
    ] = "",
    cacert: Annotated[
        str, typer.Option(metavar="FILE", help="The certificate to expect, in place of NOFX_GRPC_TLS_CERT.")
    ] = "",
    timeout: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds to wait for the answer.")] = 3.0,
) -> None:
    """Ask a server whether it serves: exit code 0 if so, else 1."""
    from nofx_grpc.cli import health

    listen, cert = health.settings_of(config, os.environ)
    problem = health.check(address or listen, cacert or cert, timeout)
    if problem:
        print(problem, file=sys.stderr)
        raise typer.Exit(EXIT_FAILED)
    print("SERVING")


class RoleName(StrEnum):
    """The roles that a token can have."""

    ADMIN = "admin"
    GATEWAY = "gateway"
    ENGINE = "engine"
    VIEWER = "viewer"


def _parse_period(text: str) -> timedelta:
    from nofx_grpc.cli.tokens import parse_period

    try:
        return parse_period(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


@token_app.command("create")
def create_token(
    role: Annotated[RoleName, typer.Option(help="What the token is for.")],
    name: Annotated[str, typer.Option(help="What to call the token.")] = "made by nofx-grpc token create",
    user_id: Annotated[str, typer.Option(metavar="ID", help="The only user that the token is good for.")] = "",
    expires_in: Annotated[
        timedelta | None,
        typer.Option(parser=_parse_period, metavar="PERIOD", help="How long it is good: 30d, 12h, 15m, 2w."),
    ] = None,
    reveal: Annotated[bool, typer.Option("--reveal", help="An admin may read the secrets of users.")] = False,
    reveal_system: Annotated[
        bool, typer.Option("--reveal-system", help="An admin may read the secrets of the system configuration.")
    ] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Make a token without a server, for whoever has the master key.  Only the token is printed, and only now."""
    from nofx_grpc.cli import tokens

    wanted = tokens.Wanted(role, name, user_id, expires_in, reveal, reveal_system)
    made = tokens.create(_load(config), wanted)
    if json:
        _print_json(made)
    else:
        print(made["secret"])


def _load(config: Path | None, listen: str = "") -> "Settings":
    """The settings, with logs and process set up as they say.  Raises SettingsError."""
    from nofx_grpc import lifecycle, logs
    from nofx_grpc.settings import Settings, variable

    settings = Settings.load(config, dict(os.environ) | ({variable("listen"): listen} if listen else {}))
    logs.configure(settings.log_level, settings.log_format)
    lifecycle.protect_process()
    return settings
