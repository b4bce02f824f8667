"""What the subcommands have in common: options, and the settings that they run with."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nofx_grpc.settings import Settings

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="A TOML file of settings; the environment wins.")
]

Json = Annotated[bool, typer.Option("--json", help="Report as JSON on standard output.")]


def load(config: Path | None, extra: Mapping[str, str] | None = None) -> "Settings":
    """The settings, `extra` over the environment; logs and process are set up as they say.  Raises SettingsError."""
    from nofx_grpc import lifecycle, logs
    from nofx_grpc.settings import Settings

    settings = Settings.load(config, dict(os.environ) | dict(extra or {}))
    logs.configure(settings.log_level, settings.log_format)
    lifecycle.protect_process()
    return settings
