"""The subcommands of `nofx-grpc decisions` that deal with files, without a server."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nofx_grpc.cli.options import Config, Json, load
from nofx_grpc.cli.reports import print_json

if TYPE_CHECKING:
    from nofx_grpc.cli.decision_copies import Report

app = typer.Typer(no_args_is_help=True, help="What traders decided.", rich_markup_mode=None)

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="A directory with a folder for each trader.")]


def _report(done: "Report", *, json: bool) -> None:
    if json:
        print_json(done.as_json())
    else:
        print(", ".join(f"{number} {what.replace('_', ' ')}" for what, number in done.counts.items()))
        done.show_passed_over()
    done.end()


@app.command("reindex")
def reindex(config: Config = None, json: Json = False) -> None:
    """Make the index of the decision records anew from their files, while the server runs or not."""
    from nofx_grpc.cli import decision_files

    _report(decision_files.reindex(load(config)), json=json)


@app.command("import")
def import_(directory: Directory, config: Config = None, json: Json = False) -> None:
    """Take over decision records from files, as NOFX has them; those that are there already stay as they are."""
    from nofx_grpc.cli import decision_files

    _report(decision_files.import_from(load(config), directory), json=json)


@app.command("export")
def export(directory: Directory, config: Config = None, json: Json = False) -> None:
    """Write every decision record into a file, as NOFX has them; files that are there already stay as they are."""
    from nofx_grpc.cli import decision_files

    _report(decision_files.export_to(load(config), directory), json=json)
