"""Backups: a directory with the store as one SQLite file, whatever engine it came from, and a manifest of it."""

import fcntl
import json
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import file_digest
from pathlib import Path
from typing import Any, Self

from nofx_grpc.errors import BackupError
from nofx_grpc.store import keys
from nofx_grpc.store.backend import Backend
from nofx_grpc.store.moving.copy import copy_store, reading
from nofx_grpc.store.moving.rows import Tell
from nofx_grpc.store.moving.target import BACKUP
from nofx_grpc.store.schema import newest_version
from nofx_grpc.store.sqlite import SqliteBackend

MANIFEST = "manifest.json"
DATABASE = "nofx.db"
LOGS = "decision_logs.tar"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class File:
    """A file of a backup."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds: of keys, their ids alone."""

    format: int
    made_at: str  # RFC 3339
    release: str
    engine: str  # that the store was on
    schema: str
    revision: int
    history_id: str
    tables: dict[str, int]  # the number of rows
    key_ids: list[str]
    left_out: list[str]  # tables that are not the store's
    files: dict[str, File]

    @classmethod
    def read(cls, directory: Path) -> Self:
        """The manifest of a backup.  Raises BackupError if it is none that this release understands."""
        path = directory / MANIFEST
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["format"] != FORMAT:
                raise BackupError(f"{directory} is a backup of format {found['format']}: this release reads {FORMAT}")
            files = {name: File(**file) for name, file in found.pop("files").items()}
            return cls(files=files, **found)
        except OSError as error:
            raise BackupError(f"{directory} is no backup: {path} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BackupError(f"{directory} is no backup, or a damaged one: {path} is no manifest") from error


def write_backup(  # what a manifest tells comes from outside
    source: Backend, directory: Path, logs: Path, *, release: str, now: datetime, tell: Tell
) -> Manifest:
    """Back up a store, which may be in use, and the decision logs in `logs`, to a directory that is not there yet.

    The directory appears when it is whole.  Raises BackupError, and what `copy_store` raises.
    """
    with _appearing(directory) as partial:
        copied = copy_store(source, backend := SqliteBackend(partial / DATABASE, lock_timeout=1), tell, purpose=BACKUP)
        _close(backend)
        if logs.is_dir():
            _pack(logs, partial / LOGS)
        with reading(source) as connection:
            key_ids = sorted(record.id for record in keys.read_all(connection))
        manifest = Manifest(
            format=FORMAT,
            made_at=now.isoformat(),
            release=release,
            engine=source.name,
            schema=newest_version(),
            revision=copied.revision,
            history_id=copied.history_id,
            tables={name: table.rows for name, table in copied.tables.items()},
            key_ids=key_ids,
            left_out=copied.left_out,
            files={path.name: describe(path) for path in sorted(partial.iterdir())},
        )
        _write_json(partial / MANIFEST, asdict(manifest))
    return manifest


def check(directory: Path) -> Manifest:
    """The manifest of a backup that is whole.  Raises BackupError, which says what is damaged or missing."""
    manifest = Manifest.read(directory)
    for name, expected in manifest.files.items():
        if Path(name).name != name or name not in {DATABASE, LOGS}:
            raise BackupError(f"{directory} is damaged: its manifest names a file {name!r}")
        try:
            found = describe(directory / name)
        except OSError as error:
            raise BackupError(f"{directory} is damaged: {name} cannot be read: {error.strerror}") from error
        if found != expected:
            raise BackupError(f"{directory} is damaged: {name} is not what was written ({found.bytes} bytes)")
    if DATABASE not in manifest.files:
        raise BackupError(f"{directory} is damaged: its manifest names no {DATABASE}")
    return manifest


def describe(path: Path) -> File:
    with path.open("rb") as file:
        return File(path.stat().st_size, file_digest(file, "sha256").hexdigest())


@contextmanager
def _appearing(directory: Path) -> Iterator[Path]:
    """A directory that gets its name when everything in it is written and durable; else nothing is left of it."""
    if directory.exists():
        raise BackupError(f"{directory} is there already: name a directory that is not")
    partial = directory.with_name(f".{directory.name}.partial")
    try:
        partial.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(partial, directory):
            try:
                yield partial
                for path in [*partial.iterdir(), partial]:
                    sync(path)
                partial.rename(directory)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
        sync(directory.parent)
    except OSError as error:
        raise BackupError(f"the backup cannot be written to {directory}: {error.strerror}") from error


@contextmanager
def _locked(partial: Path, directory: Path) -> Iterator[None]:
    """Nobody else writes to the directory, and nothing is in it.  Raises BackupError if somebody does."""
    file = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for left in partial.iterdir():  # by a backup that was killed
            left.unlink()
        yield
    except BlockingIOError:
        raise BackupError(f"another backup to {directory} is being made: let it run to its end") from None
    finally:
        os.close(file)


def _close(backend: SqliteBackend) -> None:
    """Make one file of the database, which needs no other beside it."""
    with closing(sqlite3.connect(backend.path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    backend.path.with_name(backend.path.name + ".lock").unlink(missing_ok=True)


def _pack(logs: Path, archive: Path) -> None:
    """Pack the regular files below a directory; a link leads elsewhere and is left out.

    Decisions are appended and pruned meanwhile: what is gone by its turn is left out, too.
    """
    with tarfile.open(archive, "w") as tar:
        for folder, names, files in os.walk(logs):
            names.sort()
            for name in sorted(files):
                path = Path(folder, name)
                if path.is_file() and not path.is_symlink() and not name.endswith(".tmp"):
                    with suppress(FileNotFoundError), path.open("rb") as content:
                        tar.addfile(tar.gettarinfo(arcname=str(path.relative_to(logs)), fileobj=content), content)
                    forget(tar)


def forget(tar: tarfile.TarFile) -> None:
    """Let an archive forget the members that it has gone past: it would keep them all, a million as any."""
    tar.members = []  # type: ignore[attr-defined]  # the stubs do not have it


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def sync(path: Path) -> None:
    """Make a file, or the names in a directory, durable."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
