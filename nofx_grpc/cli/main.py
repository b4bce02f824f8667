"""The command `nofx-grpc`: its subcommands and its exit codes.

What is dear to import (the server, the settings) is imported by the subcommand that needs it: `nofx-grpc health` runs
every few seconds.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from nofx_grpc import __version__
from nofx_grpc.errors import NofxError, StartError

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_CANNOT_START = 3

app = typer.Typer(
    name="nofx-grpc",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="A TOML file of settings; the environment wins.")
]


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    try:
        app(args=argv, prog_name="nofx-grpc")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else EXIT_FAILED
    except StartError as error:
        print(error.message, file=sys.stderr)
        return EXIT_CANNOT_START
    except NofxError as error:
        print(error.message, file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


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
    from nofx_grpc import lifecycle, logs
    from nofx_grpc.cli.announce import announce
    from nofx_grpc.settings import Settings, variable

    env = dict(os.environ) | ({variable("listen"): listen} if listen else {})
    settings = Settings.load(config, env)
    logs.configure(settings.log_level, settings.log_format)
    lifecycle.serve(settings, announce)
