"""The subcommands of `nofx-grpc decisions`."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from nofx_grpc.cli import decision_files_commands
from nofx_grpc.cli.options import Json
from nofx_grpc.cli.reports import CommandFailed, print_json

app = typer.Typer(no_args_is_help=True, help="What traders decided, and what came of it.", rich_markup_mode=None)
app.add_typer(decision_files_commands.app)  # nameless: its commands are of this group

Trader = Annotated[str, typer.Argument(metavar="TRADER", help="The id of the trader.")]
User = Annotated[
    str,
    typer.Option("--user-id", metavar="ID", help="Its user; needed only with a token that is limited to that user."),
]

_MOST_TRADES = 1_000  # what the server names at most
_MOST_ROWS = 1_000


@app.command("show")
def show(
    trader: Trader,
    user: User = "",
    cycles: Annotated[int, typer.Option(min=1, max=1_000, help="How many of the latest cycles to show.")] = 20,
    json: Json = False,
) -> None:
    """Show a trader's latest decisions, and what its trades of the latest 100 cycles came to."""
    from rich.console import Console

    from nofx_grpc.cli import decisions, decisions_show
    from nofx_grpc.cli.remote import connected

    with connected("viewer") as nofx:
        record = decisions.fetch(nofx, trader, user, cycles=max(cycles, 100), shown=cycles, trades=_MOST_TRADES)
    if json:
        print_json(record.as_json())
    else:
        decisions_show.show(record, Console(highlight=False))


@app.command("report")
def report(
    trader: Trader,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The HTML file to write; - for standard output.")
    ],
    user: User = "",
    cycles: Annotated[int, typer.Option(min=1, max=10_000, help="How many of the latest cycles it is about.")] = 1_000,
) -> None:
    """Write a page about a trader: equity, drawdown, results by symbol, trades, decisions.  It needs no other file."""
    from nofx_grpc.cli import decisions
    from nofx_grpc.cli.remote import connected
    from nofx_grpc.cli.report.page import render

    with connected("viewer") as nofx:
        record = decisions.fetch(nofx, trader, user, cycles=cycles, shown=min(cycles, _MOST_ROWS), trades=_MOST_TRADES)
    page = render(record, datetime.now(UTC))
    if str(output) == "-":
        print(page)
        return
    try:
        output.write_text(page, encoding="utf-8")
    except OSError as error:
        raise CommandFailed("OUTPUT_FAILED", f"{output} cannot be written: {error.strerror}") from error
    print(f"{output}: {len(record.decisions)} decisions, {record.performance.actual.total_trades} trades")
