"""`nofx-grpc watch`: its options."""

from enum import StrEnum
from typing import Annotated

import typer

app = typer.Typer()


class KindName(StrEnum):
    """The kinds of resources that can be watched."""

    USER = "user"
    MODEL = "model"
    EXCHANGE = "exchange"
    SIGNAL_SOURCE = "signal-source"
    TRADER = "trader"
    CONFIG_ENTRY = "config-entry"
    BETA_CODE = "beta-code"


@app.command()
def watch(
    kind: Annotated[
        list[KindName] | None, typer.Option(help="A kind to watch; may be given several times. Without it: all.")
    ] = None,
    user_id: Annotated[str, typer.Option(metavar="ID", help="Only what belongs to this user.")] = "",
    initial: Annotated[bool, typer.Option("--initial", help="First show everything as it is.")] = False,
    start: Annotated[
        int | None, typer.Option("--from", metavar="REVISION", min=0, help="First show what has changed since.")
    ] = None,
    history: Annotated[
        str, typer.Option(metavar="ID", help="The history that REVISION counts in; without it, that of now.")
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show changes as they are made, until Ctrl-C."""
    from nofx_grpc.cli import watch
    from nofx_grpc.cli.watch_output import JsonLines, Table

    if initial and start is not None:
        raise typer.BadParameter("--initial and --from exclude each other")
    if history and start is None:
        raise typer.BadParameter("--history says what --from counts in: give both")
    wanted = watch.Wanted([name.value for name in kind or ()], user_id, initial, start, history)
    watch.run(wanted, JsonLines() if json else Table())
