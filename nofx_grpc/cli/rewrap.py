"""`nofx-grpc keys rewrap`: all keys of the keyring for a new master key, without a server."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from nofx_grpc.app import inspect_database, open_database, utc_now
from nofx_grpc.errors import MasterKeyError, SettingsError, StartError
from nofx_grpc.master_key import from_command, from_file
from nofx_grpc.settings import Settings
from nofx_grpc.store import audit, keys
from nofx_grpc.store.audit import AuditRecord
from nofx_grpc.store.engine import Connection
from nofx_grpc.store.schema import SchemaState

NEW_KEY = "NEW_DATA_ENCRYPTION_KEY"


def new_master_key(settings: Settings, file: Path | None, command: str, env: Mapping[str, str] = os.environ) -> str:
    """The new master key, from the one place that was named.  Raises SettingsError, MasterKeyError."""
    named = {"--new-key-file": file, "--new-key-command": command, NEW_KEY: env.get(NEW_KEY)}
    given = [name for name, value in named.items() if value]
    if len(given) != 1:
        raise SettingsError(
            f"the new master key is taken from one of {', '.join(named)}: given are {' and '.join(given) or 'none'}"
        )
    if command:
        return from_command(command, settings.master_key_command_seconds)
    if file is None:
        return env[NEW_KEY]
    text = from_file(file)
    if text is None:
        raise MasterKeyError(f"there is no file {file}: put the new master key into it first")
    return text


def run(settings: Settings, new_text: str) -> dict[str, object]:
    """Rewrap, all or nothing, on the record as the local user's.

    Raises StartError if there is no database that this release works with, and MasterKeyError if the old key does not
    fit, or the new one is no other.
    """
    if inspect_database(settings) is not SchemaState.CURRENT:
        raise StartError("there is no database of this release: run 'nofx-grpc serve' or 'nofx-grpc migrate' first")
    return {"keys": asyncio.run(_rewrap(settings, new_text))}


async def _rewrap(settings: Settings, new_text: str) -> int:
    db, live = open_database(settings, utc_now)

    def work(connection: Connection) -> int:
        number = keys.rewrap(connection, live.master, new_text, os.urandom)
        audit.append(connection, AuditRecord(f"local:{os.getuid()}", "admin", "nofx-grpc keys rewrap", "local"))
        return number

    db.open()
    try:
        return (await db.write(work)).value
    finally:
        await db.close()
