"""The files of an adoption: the new database is built beside its place, and put there whole or not at all."""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from nofx_grpc.errors import AdoptionError
from nofx_grpc.store.adoption.source import SIDE_FILES, FileState, Source, file_states

SUFFIX: Final = ".adopting"


class Building:
    """The file that is built; `replace` makes it the target."""

    def __init__(self, target: Path, lock: int) -> None:
        self.target, self.path, self._lock = target, _beside(target, SUFFIX), lock

    def replace(self) -> None:
        """Put the finished file, durable, in the target's place.  Raises AdoptionError if not all is in that file."""
        wal = _beside(self.path, "-wal")
        if wal.exists() and wal.stat().st_size > 0:
            raise AdoptionError(f"{wal} could not be brought into {self.path}")
        os.fsync(self._lock)
        self.path.replace(self.target)
        sync_directory(self.target.parent)


@contextmanager
def building(target: Path) -> Iterator[Building]:
    """A private, empty file to build the target in; what an adoption that was killed left is removed first, and what
    this one leaves too.  Raises AdoptionError if another adoption builds the same target.
    """
    path = _beside(target, SUFFIX)
    # The lock is on the file itself, so that none outlives a killed process.
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise AdoptionError(f"another adoption is building {target}: wait for it") from None
    try:
        os.fchmod(lock, 0o600)
        os.ftruncate(lock, 0)
        for suffix in (*SIDE_FILES, ".lock"):
            _beside(path, suffix).unlink(missing_ok=True)
        yield Building(target, lock)
    finally:
        for suffix in ("", *SIDE_FILES, ".lock"):
            _beside(path, suffix).unlink(missing_ok=True)
        os.close(lock)


def check_target(target: Path) -> None:
    """Raises AdoptionError unless a new database can be put there."""
    if target.is_dir():
        raise AdoptionError(f"{target} is a directory: name a database file in it")
    if target.exists() and target.stat().st_size > 0:
        raise AdoptionError(
            f"{target} already holds data: adoption needs a database of its own. "
            "Name another one by --to, or stop the server and move this one away"
        )
    for suffix in SIDE_FILES:
        if _beside(target, suffix).exists():
            raise AdoptionError(
                f"{_beside(target, suffix)} is left of a database that is not there any more: move it away first"
            )


@contextmanager
def exclusive(source: Source) -> Iterator[None]:
    """Keep everybody else out of the original, brought into one file, while the block replaces it.

    Raises AdoptionError if somebody has it open, or it has changed since it was read.
    """
    uri = f"file:{quote(str(source.path.absolute()))}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=0)) as connection:
        try:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise AdoptionError(_in_use(source.path, str(error))) from error
        if _content(file_states(source.path)) != _content(source.files):
            connection.execute("ROLLBACK")
            raise AdoptionError(f"{source.path} has changed while it was read: stop NOFX, then adopt")
        connection.execute("ROLLBACK")  # the lock is kept: see locking_mode
        connection.execute("PRAGMA journal_mode=DELETE")  # a -wal beside the new file would be taken for its own
        connection.execute("BEGIN EXCLUSIVE")
        for suffix in SIDE_FILES:  # what a crash left, or an empty journal: all is in the one file now
            _beside(source.path, suffix).unlink(missing_ok=True)
        yield
        connection.execute("ROLLBACK")


def write_backup(source: Source, path: Path) -> None:
    """Write what was read to a file that only its owner can read, durable."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(path)) as connection:
        source.connection.backup(connection)
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
    sync_directory(path.parent)


def check_nobody_has_it_open(path: Path) -> None:
    """Raises AdoptionError if a process can be seen (on Linux, by /proc) that has the database open."""
    if pids := opened_by(path):
        raise AdoptionError(_in_use(path, f"process {', '.join(map(str, pids))} has it open"))


def opened_by(path: Path) -> list[int]:
    """The other processes that have the database open, as far as /proc tells: none where there is no /proc."""
    names = {str(path.resolve()) + suffix for suffix in ("", *SIDE_FILES)}
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # the process has ended, or is somebody else's
            if os.readlink(link) in names:  # noqa: PTH115  # Path.readlink makes a Path of each: ten times as slow
                found.add(int(link.parts[2]))
    return sorted(found - {os.getpid()})


def sync_directory(path: Path) -> None:
    """Make a rename durable."""
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _content(files: dict[str, FileState]) -> list[FileState]:
    """The files that hold data; an empty -wal is none."""
    return [files[suffix] for suffix in ("", "-wal") if suffix in files and files[suffix].size > 0]


def _in_use(path: Path, why: str) -> str:
    return f"{path} is in use ({why}): stop NOFX before adopting in place, or adopt without --in-place"


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
