"""The subcommands of `nofx-grpc audit`."""

from pathlib import Path
from typing import Annotated

import typer

from nofx_grpc.cli.options import Config, Json, load
from nofx_grpc.cli.reports import EXIT_FAILED, print_json

app = typer.Typer(no_args_is_help=True, help="The audit log.", rich_markup_mode=None)


@app.command()
def verify(
    head: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A head that was exported, to compare with as well.")
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Check every record of the audit log, without a server: exit code 0 if nothing was found, else 1."""
    from nofx_grpc.cli import audit
    from nofx_grpc.cli.progress import bar

    settings = load(config)
    with bar() as tell:
        report = audit.verify(settings, head, tell)
    if json:
        print_json(audit.as_json(report))
    else:
        audit.show(report)
    if report.found:
        raise typer.Exit(EXIT_FAILED)


@app.command("export-head")
def export_head(config: Config = None) -> None:
    """Print the heads of all chains, signed: a text to be kept as it is, away from the server."""
    from nofx_grpc.cli import audit

    print(audit.export(load(config)))
