"""The subcommands `nofx-grpc keys`: all but `rewrap` talk to a server."""

from pathlib import Path
from typing import Annotated

import typer

from nofx_grpc.cli.options import Config, Json, load
from nofx_grpc.cli.reports import print_json

keys_app = typer.Typer(no_args_is_help=True, help="The keys that seal what is stored.", rich_markup_mode=None)

KeyId = Annotated[str, typer.Argument(metavar="ID", help="The id of the key, as 'nofx-grpc keys list' shows it.")]


@keys_app.command("list")
def list_keys(json: Json = False) -> None:
    """List the keys, with how many stored values each seals."""
    from nofx_grpc.cli import keys

    found = keys.list_keys()
    if json:
        print_json({"keys": found})
    else:
        keys.show(found)


@keys_app.command("rotate")
def rotate(json: Json = False) -> None:
    """Make a new key, which seals from now on; the old ones only open."""
    from nofx_grpc.cli import keys

    report = keys.rotate()
    if json:
        print_json(report)
    else:
        keys.show_rotated(report)


@keys_app.command("reencrypt")
def reencrypt(json: Json = False) -> None:
    """Seal anew, by the key that seals now, what older keys have sealed.  May be ended and begun again at any time."""
    from nofx_grpc.cli import keys

    report = keys.reencrypt()
    if json:
        print_json(report)
    else:
        keys.show_reencrypted(report)


@keys_app.command("retire")
def retire(key_id: KeyId, json: Json = False) -> None:
    """Remove a key that seals nothing any more, for good."""
    from nofx_grpc.cli import keys

    report = keys.retire(key_id)
    if json:
        print_json(report)
    else:
        keys.show_retired(report)


@keys_app.command("rewrap")
def rewrap(
    new_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The file that holds the new master key.")
    ] = None,
    new_key_command: Annotated[
        str, typer.Option(metavar="COMMAND", help="The command that prints the new master key.")
    ] = "",
    config: Config = None,
    json: Json = False,
) -> None:
    """Wrap all keys for a new master key, without a server.  The old one is that of the settings; the new one is in a
    file, printed by a command, or in the environment as NEW_DATA_ENCRYPTION_KEY.
    """
    from nofx_grpc.cli import rewrap

    settings = load(config)
    report = rewrap.run(settings, rewrap.new_master_key(settings, new_key_file, new_key_command))
    if json:
        print_json(report)
    else:
        print(f"{report['keys']} keys are wrapped for the new master key, which opens all of them.")
        print("Start every server of this database with it from now on; keep the old one for as long as its backups.")
