"""A backup made a store again: verified first, brought to the schema of this release, with a history of its own."""

import os
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from uuid import uuid4

from sqlalchemy import Connection, update

from nofx_grpc.errors import BackupError
from nofx_grpc.store import revisions
from nofx_grpc.store.backend import Backend
from nofx_grpc.store.bootstrap import unlock
from nofx_grpc.store.decisions.marks import MARK
from nofx_grpc.store.moving.backups import DATABASE, LOGS, Manifest, check, forget, sync
from nofx_grpc.store.moving.copy import copy_store
from nofx_grpc.store.moving.rows import Tell
from nofx_grpc.store.moving.target import remove_mark
from nofx_grpc.store.schema import SchemaState, inspect_store, migrate
from nofx_grpc.store.sqlite import SqliteBackend

_STAGED_LOGS = ".restoring"
_NO_LOGS = {_STAGED_LOGS, MARK}  # what a directory without logs may have: the mark is of the store that is replaced


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored, and the history that it has now: whoever watched the old one takes a new snapshot."""

    manifest: Manifest
    history_id: str


def restore(directory: Path, target: Backend, logs: Path, work: Path, master_text: str, tell: Tell) -> Restored:
    """Restore a backup to an empty database, and its decision logs to a directory that is missing or empty.

    `work` is a private directory for what is made on the way.  The store is made whole before it is put in its place;
    a copy to a server that is cut off has to be begun anew.  Raises BackupError, MasterKeyError, and what `copy_store`
    raises.
    """
    manifest = check(directory)
    if isinstance(target, SqliteBackend):
        _check_free(target)
    if logs.exists() and any(entry.name not in _NO_LOGS for entry in logs.iterdir()):
        raise BackupError(f"there are decision logs in {logs}: move them away")
    place = target.path if isinstance(target, SqliteBackend) else work / DATABASE
    # On the file system that they end on: a directory that is there may be one of its own.
    logs_place = logs / _STAGED_LOGS if logs.exists() else logs.with_name(f".{logs.name}{_STAGED_LOGS}")
    with (
        _clearing(place.with_name(f".{place.name}.restoring"), directory) as staged,
        _clearing(logs_place, directory) as staged_logs,
    ):
        stage = _take_out(directory / DATABASE, staged)
        _check_database(stage, manifest)
        history_id = _make_store(stage, master_text)
        if LOGS in manifest.files:
            _unpack(directory / LOGS, staged_logs)
            os.sync()  # once: to make each file durable by itself would take hours
        # The database comes last: once it is there, so is all of the rest.
        with _put(staged_logs, logs):
            if isinstance(target, SqliteBackend):
                staged.rename(target.path)
            else:
                copy_store(stage, target, tell)
        sync(place.parent)
    return Restored(manifest, history_id)


def _check_free(target: SqliteBackend) -> None:
    """Raises BackupError unless nothing is there that SQLite would take for the database, or for a part of it."""
    path = target.path
    beside = " and ".join(path.name + end for end in ("-wal", "-shm", "-journal") if Path(f"{path}{end}").exists())
    if inspect_store(target) is not SchemaState.NEW:
        with_them = f", and {beside} beside it," if beside else ","
        raise BackupError(f"{path} is not empty: move it away{with_them} or name another database by --to")
    if beside:
        raise BackupError(f"{path} had another database, of which {beside} is left: move that away, too")


@contextmanager
def _put(staged: Path, logs: Path) -> Iterator[None]:
    """Put the logs into their place; if the block fails, they go again."""
    placed: list[Path] = []
    try:
        if staged.exists() and not logs.exists():
            placed.append(staged.rename(logs))
        elif staged.exists():
            placed.extend(entry.rename(logs / entry.name) for entry in list(staged.iterdir()))
        for path in {logs, logs.parent} if placed else ():
            sync(path)
        yield
    except BaseException:
        for path in placed:
            _remove(path)
        raise
    (logs / MARK).unlink(missing_ok=True)


@contextmanager
def _clearing(place: Path, directory: Path) -> Iterator[Path]:
    """A place where something is made, of which nothing is left.  Raises BackupError where the system refuses."""
    try:
        _remove(place)
        yield place
    except OSError as error:
        raise BackupError(f"{directory} cannot be restored: {error.filename or place}: {error.strerror}") from error
    finally:
        _remove(place)


def _remove(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place)
        return
    for suffix in ("", "-wal", "-shm", ".lock"):
        place.with_name(place.name + suffix).unlink(missing_ok=True)


def _take_out(database: Path, place: Path) -> SqliteBackend:
    with database.open("rb") as content:
        _write(place, content)
    return SqliteBackend(place, lock_timeout=1)


def _check_database(stage: SqliteBackend, manifest: Manifest) -> None:
    """Raises BackupError unless the database is whole and has the rows that the manifest counts."""
    try:
        with closing(sqlite3.connect(stage.path)) as connection:
            problems = [row[0] for row in connection.execute("PRAGMA integrity_check(5)") if row[0] != "ok"]
            problems += [f"{row[0]}: a broken reference" for row in connection.execute("PRAGMA foreign_key_check")]
            for table, rows in manifest.tables.items():
                name = table.replace('"', '""')
                (found,) = connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()  # noqa: S608  # it is quoted
                if found != rows:
                    problems.append(f"{table} has {found} rows, and not {rows}")
    except sqlite3.Error as error:
        problems = [str(error)]
    if problems:
        raise BackupError(f"the database in the backup is damaged: {'; '.join(problems[:5])}")


def _make_store(stage: SqliteBackend, master_text: str) -> str:
    """Make of the backup a store of this release; its new history.  Raises MasterKeyError, SchemaError."""
    connection = stage.open_writer()
    try:
        remove_mark(connection)
    finally:
        connection.close()
    migrate(stage, _never)
    unlock(stage, master_text)
    history_id = str(uuid4())
    connection = stage.open_writer()
    try:
        connection.execute(update(revisions.store_state).values(history_id=history_id))
        # One file, which is moved as it is; the first start brings it to WAL mode again.
        stage.checkpoint(connection)
        connection.exec_driver_sql("PRAGMA journal_mode=DELETE")
    finally:
        connection.close()
    return history_id


def _never(connection: Connection) -> None:
    raise BackupError("the database in the backup is empty")


def _unpack(archive: Path, place: Path) -> None:
    """Raises BackupError for a member that is no plain file below the place."""
    place.mkdir(mode=0o700)
    with tarfile.open(archive) as tar:
        for member in tar:
            path = place / member.name
            content = tar.extractfile(member) if member.isreg() else None
            if content is None or not path.resolve().is_relative_to(place.resolve()):
                raise BackupError(f"{archive} is damaged: it holds {member.name!r}, which is no decision log")
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(path, content)
            forget(tar)
            os.utime(path, (member.mtime, member.mtime))


def _write(path: Path, content: IO[bytes]) -> None:
    """A new file that only its owner can read."""
    path.touch(mode=0o600, exist_ok=False)
    with path.open("wb") as file:
        shutil.copyfileobj(content, file)
