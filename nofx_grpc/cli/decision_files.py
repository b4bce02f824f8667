"""`nofx-grpc decisions reindex`, `import` and `export`: records and files, without a server."""

import asyncio
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from nofx_grpc.app import decision_keeping, inspect_database, open_database, utc_now
from nofx_grpc.cli.decision_copies import Copying, PassedOver, Report, Tell, read
from nofx_grpc.cli.progress import bar
from nofx_grpc.decisions.names import SUFFIX, id_of_file, trader_of_folder
from nofx_grpc.decisions.records import NotARecord
from nofx_grpc.errors import SettingsError, StartError, StoreUnavailable
from nofx_grpc.services.decision_keeping import DecisionKeeping
from nofx_grpc.services.groups import grouped
from nofx_grpc.settings import Settings
from nofx_grpc.store.decisions import entries, index, logs
from nofx_grpc.store.decisions.bodies import compress
from nofx_grpc.store.decisions.entries import Entry
from nofx_grpc.store.decisions.file_home import FileHome
from nofx_grpc.store.decisions.folders import Folders
from nofx_grpc.store.decisions.listing import sorted_ids
from nofx_grpc.store.decisions.reading import entry_in
from nofx_grpc.store.decisions.settling import settle_all
from nofx_grpc.store.decisions.walking import all_folders, count_files
from nofx_grpc.store.schema import SchemaState

AT_ONCE: Final = 200
AT_ONCE_BYTES: Final = 16 * 1024 * 1024  # of bodies that are in memory at one time, or one that is larger


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
        return Copying(Folders(source), Folders(settings.decision_logs_dir), tell).all()


def show_adopted(settings: Settings, database: Path, copied: Report | None) -> None:
    """Say for people what `adopt` has done."""
    source = _beside(database)
    if copied is not None:
        count = copied.counts["copied"]
        print(f"Copied {count} decision records from {source} to {settings.decision_logs_dir}.")
        copied.show_passed_over()
    elif settings.decision_logs != "files" and source.is_dir():
        print(f"The decision records are still files: nofx-grpc decisions import {shlex.quote(str(source))}")


def _beside(database: Path) -> Path:
    return database.absolute().resolve().parent / "decision_logs"


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
    total, done, folders = await asyncio.to_thread(count_files, home.folders), 0, set()
    passed_over = PassedOver()

    def advance(files: int) -> None:
        nonlocal done
        done += files
        tell("decision records", done, max(total, done))

    async def reindex_one(folder: str) -> None:
        try:
            if not await home.reindex(folder, advance):
                passed_over(folder, "its trader's records are in another folder")
        except StoreUnavailable as error:
            if not home.folders.is_there():
                raise
            passed_over(folder, error.message, unread=True)

    for folder in all_folders(home.folders.root, passed_over):
        await reindex_one(folder)
        folders.add(folder)
    traders = records = unreadable = 0
    async for log in _logs(keeping):
        if log.folder not in folders:
            await reindex_one(log.folder)
        count, _ = (await keeping.db.read(index.unreadable, log.id, 0)).value
        now = (await keeping.db.read(logs.find, log.trader_id)).value.log or log
        traders, records, unreadable = traders + 1, records + now.total_cycles, unreadable + count
    counts = {"traders": traders, "records": records, "unreadable_files": unreadable}
    return Report(counts, passed_over.named, passed_over.unread)


async def _import(keeping: DecisionKeeping, source: Folders, tell: Tell) -> Report:
    await keeping.home.open()
    if isinstance(keeping.home, FileHome):
        copied = (await _copy(source, keeping.home, tell)).report()
        indexed = await _reindex(keeping, tell)
        unread = copied.unread + indexed.unread
        return Report(copied.counts | indexed.counts, copied.passed_over + indexed.passed_over, unread)
    total, done, imported = await asyncio.to_thread(count_files, source), 0, 0
    passed_over = PassedOver()
    for folder in all_folders(source.root, passed_over):
        trader_id = trader_of_folder(folder) or ""
        for name in source.names(folder):
            if id_of_file(name) is None:
                passed_over(f"{folder}/{name}", "its name is none of a record, which ends in .json", files=0)
        ids = sorted_ids(source.names(folder))
        while some := list(islice(ids, AT_ONCE)):
            found = await asyncio.to_thread(_read, source, folder, some, passed_over)
            new, bodies = [entry for entry, _ in found], [body for _, body in found]
            if new:
                imported += (await keeping.db.write(index.add, trader_id, folder, new, (), bodies)).value
            done += len(some)
            tell("decision records", done, total)
        await settle_all(keeping.db, trader_id)
    tell("decision records", total, total)
    not_imported = total - imported + passed_over.count
    return Report({"imported": imported, "not_imported": not_imported}, passed_over.named, passed_over.unread)


async def _copy(source: Folders, home: FileHome, tell: Tell) -> Copying:
    copying = await asyncio.to_thread(Copying, source, home.folders, tell)
    for folder in all_folders(source.root, copying.passed_over):
        trader_id = trader_of_folder(folder) or ""
        into = await home.place(trader_id)
        names = source.names(folder)
        while some := list(islice(names, AT_ONCE)):
            await home.let_back(trader_id, some)
        await asyncio.to_thread(copying.folder, folder, into)
    return copying


def _read(source: Folders, folder: str, ids: Sequence[str], passed_over: PassedOver) -> list[tuple[Entry, bytes]]:
    """Entries and bodies of the files that are records."""
    found = []
    for id in ids:
        name = id + SUFFIX
        if (there := read(source, folder, name, passed_over, files=0)) is None:  # it is counted with its folder
            continue
        try:
            entry = entry_in(id, *there)
        except NotARecord as error:
            passed_over(f"{folder}/{name}", str(error), files=0)
        else:
            found.append((entry._replace(mtime_ns=0), compress(there[1])))
    return found


async def _export(keeping: DecisionKeeping, target: Folders, tell: Tell) -> Report:
    await keeping.home.open()
    exported, done, passed_over = 0, 0, PassedOver()
    async for log in _logs(keeping):
        after = entries.BEFORE_ALL
        while some := (await keeping.db.scan(entries.oldest, log.id, after, AT_ONCE)).value:
            for part in grouped(some, lambda entry: entry.size_bytes, AT_ONCE_BYTES):
                bodies = await _bodies(keeping, log, part)
                exported += await asyncio.to_thread(_write, target, log.folder, part, bodies, passed_over)
            after = entries.Key(some[-1].time_ns, some[-1].id)
            done += len(some)
            tell(log.trader_id, done, done)
    counts = {"exported": exported, "not_exported": done - exported}
    return Report(counts, passed_over.named, passed_over.unread)


async def _bodies(keeping: DecisionKeeping, log: logs.Log, some: Sequence[Entry]) -> list[bytes | None]:
    """The bodies of records, None for those that are gone, or cannot be read, which keeps nobody from the others."""
    try:
        return await keeping.home.load(log, some)
    except StoreUnavailable:
        if len(some) == 1:
            return [None]
    return [body for entry in some for body in await _bodies(keeping, log, [entry])]


def _write(
    target: Folders, folder: str, some: Sequence[Entry], bodies: Sequence[bytes | None], passed_over: PassedOver
) -> int:
    """How many files were written: those that were not there yet, of the records that have a body."""
    written = 0
    for entry, body in zip(some, bodies, strict=True):
        name = entry.id + SUFFIX
        if not body:
            passed_over(f"{folder}/{name}", "it is gone, or cannot be read", unread=True)
        elif not target.has(folder, name):
            target.put(folder, name, body)
            written += 1
    return written


async def _logs(keeping: DecisionKeeping) -> AsyncIterator[logs.Log]:
    after = ""
    while some := (await keeping.db.scan(logs.all_after, after, AT_ONCE)).value:
        for log in some:
            yield log
        after = some[-1].trader_id
