"""`nofx-grpc pki ...`."""

from pathlib import Path
from typing import Annotated

import typer

from nofx_grpc.cli.options import Json
from nofx_grpc.cli.reports import print_json

app = typer.Typer(no_args_is_help=True, help="Certificates to develop with.", rich_markup_mode=None)


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Where to put them.")] = Path("pki"),
    listen: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where the server listens for callers with certificates.")
    ] = "127.0.0.1:50052",
    host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A further name or IP address of the server; repeatable.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long they are valid.")] = 365,
    json: Json = False,
) -> None:
    """Make an authority, a server's certificate and one for a client of each role, and print how to use them."""
    from datetime import UTC, datetime

    from nofx_grpc.cli import pki

    made = pki.init(directory, listen, host or [], days, datetime.now(UTC))
    if json:
        print_json(made.as_json())
    else:
        made.show()
