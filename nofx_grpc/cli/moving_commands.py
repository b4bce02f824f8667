"""The subcommands that move a store's whole content."""

from pathlib import Path
from typing import Annotated

import typer

from nofx_grpc.cli.options import Config, Json, load
from nofx_grpc.cli.reports import print_json

app = typer.Typer(rich_markup_mode=None)


@app.command()
def backup(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; a directory that is not there yet.")],
    config: Config = None,
    json: Json = False,
) -> None:
    """Back up the database and the decision logs, while the server runs or not.  No key is in a backup in clear."""
    from nofx_grpc.cli import moving

    report = moving.run_backup(load(config), directory)
    print_json(report) if json else moving.show_backup(report)


@app.command()
def restore(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="What 'nofx-grpc backup' has made.")],
    to: Annotated[str, typer.Option(metavar="URL", help="Where to, in place of NOFX_GRPC_DATABASE_URL.")] = "",
    config: Config = None,
    json: Json = False,
) -> None:
    """Make a store of a backup, in an empty database, with the master key that it was made with."""
    from nofx_grpc.cli import moving

    report = moving.run_restore(load(config, {"NOFX_GRPC_DATABASE_URL": to} if to else {}), directory)
    print_json(report) if json else moving.show_restored(report)


@app.command("copy-db")
def copy_db(
    source: Annotated[str, typer.Argument(metavar="SRC", help="The URL of the database to copy; stop its servers.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="The URL of an empty database, of either engine.")],
    config: Config = None,
    json: Json = False,
) -> None:
    """Copy a database to another one, SQLite or PostgreSQL, and compare every row.  Run it again if it was cut off."""
    from nofx_grpc.cli import moving

    report = moving.run_copy(load(config), source, target)
    print_json(report) if json else moving.show_copied(report)
