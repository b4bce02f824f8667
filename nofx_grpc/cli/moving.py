"""`nofx-grpc backup`, `restore` and `copy-db`: a store's whole content to another place."""

import asyncio
import os
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from nofx_grpc import __version__, data_dir
from nofx_grpc.app import database_backend, open_database, utc_now
from nofx_grpc.cli.progress import bar
from nofx_grpc.errors import CopyError, SettingsError
from nofx_grpc.master_key import master_key_text
from nofx_grpc.redaction import escaped
from nofx_grpc.settings import Settings
from nofx_grpc.store import audit, tokens
from nofx_grpc.store.audit import AuditRecord
from nofx_grpc.store.backend import Backend
from nofx_grpc.store.moving.backups import Manifest, write_backup
from nofx_grpc.store.moving.copy import copy_store
from nofx_grpc.store.moving.restore import restore

Report = dict[str, object]


def run_backup(settings: Settings, directory: Path) -> Report:
    """Back up the store of the settings.  Raises StartError."""
    directory = directory.absolute()
    with bar() as tell:
        manifest = write_backup(
            database_backend(settings),
            directory,
            settings.decision_logs_dir,
            release=__version__,
            now=utc_now(),
            tell=tell,
        )
    return {"directory": str(directory)} | asdict(manifest)


def run_restore(settings: Settings, directory: Path) -> Report:
    """Restore a backup to the database of the settings, on the record.  Raises StartError."""
    data_dir.prepare(settings.data_dir)
    master = master_key_text(settings, new=False)
    target = database_backend(settings)
    with data_dir.locked(settings.data_dir), bar() as tell:
        restored = restore(directory.absolute(), target, settings.decision_logs_dir, settings.data_dir, master, tell)
    manifest = restored.manifest
    return {
        "database": target.describe(),
        "made_at": manifest.made_at,
        "revision": manifest.revision,
        "history_id": restored.history_id,
        "tables": manifest.tables,
        "valid_tokens": asyncio.run(_put_on_record(settings, manifest)),
    }


def run_copy(settings: Settings, source: str, target: str) -> Report:
    """Copy the store at one URL to an empty database at another.  Raises StartError."""
    from_, to = _backend(settings, "SRC", source), _backend(settings, "DST", target)
    if from_.describe() == to.describe():
        raise CopyError(f"SRC and DST are both {to.describe()}: name another database as DST")
    with bar() as tell:
        copied = copy_store(from_, to, tell)
    return {"source": from_.describe(), "target": to.describe()} | asdict(copied)


def show_backup(report: Report) -> None:
    _show(
        f"Backed up revision {report['revision']} to {report['directory']}. Keep the master key elsewhere: the backup "
        f"does not have it, and nothing in it opens without it (keys {', '.join(_list(report['key_ids']))}).",
        report,
    )


def show_restored(report: Report) -> None:
    _show(
        f"Restored {report['database']} from the backup of {report['made_at']}, revision {report['revision']}. "
        f"Watchers take a new snapshot. {report['valid_tokens']} tokens are valid, those that were revoked since the "
        "backup among them: see Admin/ListTokens.",
        report,
    )


def show_copied(report: Report) -> None:
    _show(
        f"Copied {report['source']} to {report['target']} as of revision {report['revision']}; every row was compared. "
        "Not in the database, so not copied: the master key, token files, decision logs that are files.",
        report,
    )


def _show(text: str, report: Report) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print(escaped(text), markup=False)
    if left_out := _list(report.get("left_out")):
        console.print(escaped(f"Not the store's, so left out: {', '.join(left_out)}"), markup=False)


def _list(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _backend(settings: Settings, name: str, url: str) -> Backend:
    """Raises SettingsError, which names the argument."""
    try:
        return database_backend(settings, url)
    except SettingsError as error:
        raise SettingsError(error.message.replace("NOFX_GRPC_DATABASE_URL", name)) from None


async def _put_on_record(settings: Settings, manifest: Manifest) -> int:
    """Record the restore, in the restored store; the number of tokens that are valid now."""
    db, _ = open_database(settings, utc_now)
    db.open()
    try:
        record = AuditRecord(
            principal=f"local:{os.getuid()}",
            role="admin",
            method="nofx-grpc restore",
            peer="local",
            user_id="",
            resources=f"backup of {manifest.made_at}, history {manifest.history_id}",
            outcome=audit.OK,
            reason="",
            revision=manifest.revision,
            request_id="",
        )
        await db.append(audit.append, record)
        return (await db.read(tokens.count_valid, utc_now())).value
    finally:
        await db.close()
