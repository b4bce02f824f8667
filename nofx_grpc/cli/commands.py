"""The subcommands of `nofx-grpc`.  What is dear to import is imported by the subcommand that needs it."""

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nofx_grpc import __version__
from nofx_grpc.cli import audit_commands, decision_commands, moving_commands, pki_commands, watch_commands
from nofx_grpc.cli.keys_commands import keys_app
from nofx_grpc.cli.options import Config, Json, load
from nofx_grpc.cli.reports import print_json

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
app.add_typer(moving_commands.app)
app.add_typer(keys_app, name="keys")
app.add_typer(pki_commands.app, name="pki")
app.add_typer(watch_commands.app)
app.add_typer(audit_commands.app, name="audit")
app.add_typer(decision_commands.app, name="decisions")


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
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="How many processes serve, in place of NOFX_GRPC_WORKERS.")
    ] = None,
) -> None:
    """Serve until SIGTERM or SIGINT."""
    from nofx_grpc.cli.announce import announce

    options = {"NOFX_GRPC_LISTEN": listen, "NOFX_GRPC_WORKERS": "" if workers is None else str(workers)}
    settings = load(config, {name: value for name, value in options.items() if value})
    if settings.workers > 1:
        from nofx_grpc.workers import serve
    else:
        from nofx_grpc.lifecycle import serve
    serve(settings, announce)


@app.command()
def migrate(config: Config = None, json: Json = False) -> None:
    """Bring the database to the schema of this release, making it if there is none."""
    from nofx_grpc.cli import migration

    report = migration.run(load(config))
    if json:
        print_json(report)
    else:
        print(f"{report['database']}: {report['was']}, now at schema {report['schema']}")


@app.command()
def adopt(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The database of NOFX (config.db).")],
    to: Annotated[str, typer.Option(metavar="URL", help="Where to, in place of NOFX_GRPC_DATABASE_URL.")] = "",
    in_place: Annotated[bool, typer.Option("--in-place", help="Turn the database itself, after a backup.")] = False,
    env_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="NOFX's .env file, to take DATA_ENCRYPTION_KEY from.")
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Take over the database of a NOFX: copies it, and seals every secret in it; the original is left as it is."""
    from nofx_grpc.cli import adopt, decision_files

    key = {"DATA_ENCRYPTION_KEY": adopt.key_in_env_file(env_file)} if env_file else {}
    settings = load(config, key)
    report = adopt.run(settings, path, to, in_place=in_place)
    copied = decision_files.adopt(settings, path)
    if json:
        print_json(report.as_json() | {"decision_logs": copied and copied.as_json()})
    else:
        decision_files.show_adopted(settings, path, copied)
        adopt.show(report, settings)
    if copied is not None:
        copied.end()


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def health() -> None:
    """Ask a server whether it serves: exit code 0 if so, else 1."""
    raise AssertionError("main() has this one answered without Typer; it stands here for the list of commands")


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
    made = tokens.create(load(config), wanted)
    if json:
        print_json(made)
    else:
        print(made["secret"])
