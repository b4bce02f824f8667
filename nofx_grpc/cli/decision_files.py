"""`nofx-grpc decisions reindex`, `import` and `export`: records and files, without a server."""

import asyncio
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from nofx_grpc.app import decision_keeping, inspect_database, open_database, utc_now
from nofx_grpc.cli.progress import bar
from nofx_grpc.decisions.names import SUFFIX, trader_of_folder
from nofx_grpc.decisions.records import NotARecord
from nofx_grpc.errors import SettingsError, StartError
from nofx_grpc.services.decision_keeping import DecisionKeeping
from nofx_grpc.settings import Settings
from nofx_grpc.store.decisions import entries, index, logs
from nofx_grpc.store.decisions.bodies import compress
from nofx_grpc.store.decisions.entries import Entry
from nofx_grpc.store.decisions.file_home import FileHome
from nofx_grpc.store.decisions.folders import Folders
from nofx_grpc.store.decisions.listing import sorted_ids
from nofx_grpc.store.decisions.reading import read_entry
from nofx_grpc.store.decisions.settling import settle_all
from nofx_grpc.store.schema import SchemaState

AT_ONCE: Final = 200
Tell = Callable[[str, int, int], None]
Report = dict[str, int]


def reindex(settings: Settings) -> Report:
    """Bring the index in step with all files.  Raises SettingsError where records are no files, and StartError."""
    if settings.decision_logs != "files":
        raise SettingsError("NOFX_GRPC_DECISION_LOGS is 'database': the records are not files")
    if not settings.decision_logs_dir.is_dir():
        raise SettingsError(f"NOFX_GRPC_DECISION_LOGS_DIR is {settings.decision_logs_dir}: there is no such directory")
    return _run(settings, _reindex)


def import_from(settings: Settings, directory: Path) -> Report:
    """Take over the records of a directory.  Raises StartError."""
    if not directory.is_dir():
        raise StartError(f"{directory} is no directory")
    return _run(settings, lambda keeping, tell: _import(keeping, Folders(directory), tell))


def export_to(settings: Settings, directory: Path) -> Report:
    """Write all records into a directory.  Raises StartError."""
    return _run(settings, lambda keeping, tell: _export(keeping, Folders(directory, durable=False), tell))


def adopt(settings: Settings, database: Path) -> Report | None:
    """Copy the records that NOFX has beside its database to their new place; None if there are none to copy.

    The index finds them there.  They stay where they are if that is the same place, or if it is no directory.
    """
    source = _beside(database)
    if settings.decision_logs != "files" or not source.is_dir() or source == settings.decision_logs_dir.resolve():
        return None
    with bar() as tell:
        return copy_files(Folders(source), Folders(settings.decision_logs_dir), tell)


def show_adopted(settings: Settings, database: Path, copied: Report | None) -> None:
    """Say for people what `adopt` has done."""
    source = _beside(database)
    if copied is not None:
        print(f"Copied {copied['copied']} decision records from {source} to {settings.decision_logs_dir}.")
    elif settings.decision_logs != "files" and source.is_dir():
        print(f"The decision records are still files: nofx-grpc decisions import {shlex.quote(str(source))}")


def _beside(database: Path) -> Path:
    return database.absolute().resolve().parent / "decision_logs"


def copy_files(source: Folders, target: Folders, tell: Tell) -> Report:
    """Copy the files of all traders, records or not; those that are there already stay as they are."""
    total, done, copied = source.count(), 0, 0
    for folder in source.all():
        for name in source.names(folder):
            copied += _copy(source, target, folder, name)
            done += 1
            tell("decision records", done, total)
    return {"copied": copied, "not_copied": total - copied}


def _copy(source: Folders, target: Folders, folder: str, name: str) -> bool:
    if target.has(folder, name):
        return False
    try:
        _, data = source.read(folder, name)
    except (NotARecord, FileNotFoundError):
        return False
    target.put(folder, name, data)
    return True


def _run(settings: Settings, work: Callable[[DecisionKeeping, Tell], Awaitable[Report]]) -> Report:
    if inspect_database(settings) is not SchemaState.CURRENT:
        raise StartError("there is no database of this release: run 'nofx-grpc serve' or 'nofx-grpc migrate' first")

    async def run() -> Report:
        async with _opened(settings) as keeping:
            with bar() as tell:
                return await work(keeping, tell)

    return asyncio.run(run())


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[DecisionKeeping]:
    db, _ = open_database(settings, utc_now)
    db.open()
    try:
        yield decision_keeping(settings, db, utc_now)
    finally:
        await db.close()


async def _reindex(keeping: DecisionKeeping, tell: Tell) -> Report:
    home = keeping.home
    assert isinstance(home, FileHome)  # noqa: S101  # as the setting says
    await home.take()
    total, done, folders = await asyncio.to_thread(home.folders.count), 0, set()

    def advance(files: int) -> None:
        nonlocal done
        done += files
        tell("decision records", done, max(total, done))

    for folder in home.folders.all():
        await home.reindex(folder, advance)
        folders.add(folder)
    traders = records = unreadable = 0
    async for log in _logs(keeping):
        if log.folder not in folders:
            await home.reindex(log.folder, advance)
        count, _ = (await keeping.db.read(index.unreadable, log.id, 0)).value
        now = (await keeping.db.read(logs.find, log.trader_id)).value.log or log
        traders, records, unreadable = traders + 1, records + now.total_cycles, unreadable + count
    return {"traders": traders, "records": records, "unreadable_files": unreadable}


async def _import(keeping: DecisionKeeping, source: Folders, tell: Tell) -> Report:
    await keeping.home.open()
    if isinstance(keeping.home, FileHome):
        copied = await asyncio.to_thread(copy_files, source, keeping.home.folders, tell)
        return copied | await _reindex(keeping, tell)
    total, done, imported = await asyncio.to_thread(source.count), 0, 0
    for folder in source.all():
        trader_id = trader_of_folder(folder) or ""
        with sorted_ids(source.names(folder)) as ids:
            while some := list(islice(ids, AT_ONCE)):
                read = await asyncio.to_thread(_read, source, folder, some)
                new, bodies = [entry for entry, _ in read], [body for _, body in read]
                if new:
                    imported += (await keeping.db.write(index.add, trader_id, folder, new, (), bodies)).value
                done += len(some)
                tell("decision records", done, total)
        await settle_all(keeping.db, trader_id)
    tell("decision records", total, total)
    return {"imported": imported, "not_imported": total - imported}


def _read(source: Folders, folder: str, ids: Sequence[str]) -> list[tuple[Entry, bytes]]:
    """Entries and bodies of the files that are records."""
    found = []
    for id in ids:
        name = id + SUFFIX
        entry = read_entry(source, folder, name)
        if isinstance(entry, Entry):
            found.append((entry._replace(mtime_ns=0), compress(source.read(folder, name)[1])))
    return found


async def _export(keeping: DecisionKeeping, target: Folders, tell: Tell) -> Report:
    await keeping.home.open()
    exported = done = 0
    async for log in _logs(keeping):
        after = entries.BEFORE_ALL
        while some := (await keeping.db.scan(entries.oldest, log.id, after, AT_ONCE)).value:
            bodies = await keeping.home.load(log, some)
            exported += await asyncio.to_thread(_write, target, log.folder, some, bodies)
            after = entries.Key(some[-1].time_ns, some[-1].id)
            done += len(some)
            tell(log.trader_id, done, done)
    return {"exported": exported, "not_exported": done - exported}


def _write(target: Folders, folder: str, some: Sequence[Entry], bodies: Sequence[bytes | None]) -> int:
    written = 0
    for entry, body in zip(some, bodies, strict=True):
        if body and not target.has(folder, entry.id + SUFFIX):
            target.put(folder, entry.id + SUFFIX, body)
            written += 1
    return written


async def _logs(keeping: DecisionKeeping) -> AsyncIterator[logs.Log]:
    after = ""
    while some := (await keeping.db.scan(logs.all_after, after, AT_ONCE)).value:
        for log in some:
            yield log
        after = some[-1].trader_id
