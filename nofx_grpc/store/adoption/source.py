"""The database of NOFX, read into memory: its files are opened for reading only, and nothing is left beside them.

Memory, because its secrets may be in clear: no copy of them is to be written to another disk file.

- Closed cleanly (no -wal, no -shm): opened as `immutable`, for which SQLite makes no file and takes no lock.
- In use, or left by a crash with both -wal and -shm: opened read-only with `readonly_shm`.  SQLite takes part in the
  locking with whoever has it open, and rebuilds a stale index in memory; it makes and changes no file.
- Left with a -wal but no -shm (as a copied pair of files), or with a rollback journal: SQLite can read these only where
  it may write, so the files are copied to a private directory in memory-backed /dev/shm for the time of reading.
"""

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from shutil import copyfile
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from nofx_grpc.errors import AdoptionError

SIDE_FILES: Final = ("-wal", "-shm", "-journal")
_ATTEMPTS: Final = 5
_MEMORY_DIRECTORY: Final = Path("/dev/shm")  # noqa: S108  # a directory of its own is made there, for the owner only


class NotUtf8(bytes):
    """A text in the database that is not UTF-8."""


class FileState(NamedTuple):
    """What changes when a file does."""

    size: int
    modified: int
    inode: int


Cell = None | int | float | str | bytes


class Source:
    """A snapshot of the database.  `state` is how it was found: clean, wal (in use, or not closed) or left_over.

    Every method raises AdoptionError where the file is damaged.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, state: str, files: dict[str, FileState]) -> None:
        connection.text_factory = _text
        self.path, self.state, self.files, self.connection = path, state, files, connection
        names = self._query(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        )
        self.tables: dict[str, list[str]] = {str(name): self._columns(str(name)) for (name,) in list(names)}

    def count(self, table: str) -> int:
        [(count,)] = self._query(f"SELECT count(*) FROM {_quoted(table)}")  # noqa: S608  # of sqlite_master, quoted
        return int(count)

    def texts_with_prefix(self, prefix: str) -> Iterator[str]:
        """Every text, in whatever table and column, that begins with this."""
        for table, columns in self.tables.items():
            for name in map(_quoted, columns):
                text = f"CAST({name} AS TEXT)"  # a blob may hold text too
                sql = f"SELECT {text} FROM {_quoted(table)} WHERE substr({text}, 1, ?) = ?"  # noqa: S608  # as above
                yield from (str(row[0]) for row in self._query(sql, len(prefix), prefix))

    def rows(self, table: str) -> Iterator[dict[str, Cell]]:
        """Every row by column name."""
        columns = self.tables[table]
        names = ", ".join(_quoted(name) for name in columns)
        for row in self._query(f"SELECT {names} FROM {_quoted(table)}"):  # noqa: S608  # as above
            yield dict(zip(columns, row, strict=True))

    def damages(self) -> list[str]:
        """What SQLite says is wrong with the file; empty if nothing is."""
        found = [str(row[0]) for row in self._query("PRAGMA quick_check(20)")]
        return [] if found == ["ok"] else found

    def close(self) -> None:
        self.connection.close()

    def _columns(self, table: str) -> list[str]:
        return [str(row[1]) for row in self._query(f"PRAGMA table_info({_quoted(table)})")]

    def _query(self, sql: str, *parameters: Any) -> Iterator[tuple[Any, ...]]:
        """The rows of a query.  Raises AdoptionError where the file is damaged."""
        try:
            yield from self.connection.execute(sql, parameters)
        except sqlite3.DatabaseError as error:
            raise AdoptionError(f"{self.path} is damaged: {error}. Mend it first: sqlite3 FILE .recover") from error


def open_source(path: Path) -> Source:
    """Read the database into memory.  Raises AdoptionError if there is none, or it cannot be read."""
    check_is_database(path)
    for _ in range(_ATTEMPTS):
        files = file_states(path)
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        try:
            state = _read(path, files, connection)
            if state == "wal" or file_states(path) == files:
                return Source(path, connection, state, files)
        except (sqlite3.DatabaseError, OSError) as error:
            connection.close()
            raise AdoptionError(f"{path} cannot be read: {error}") from error
        connection.close()
    raise AdoptionError(f"{path} changes while it is read: stop NOFX, then adopt")


def file_states(path: Path) -> dict[str, FileState]:
    """The database file ('') and those beside it that exist."""
    found = {}
    for suffix in ("", *SIDE_FILES):
        try:
            stat = path.with_name(path.name + suffix).stat()
        except FileNotFoundError:
            continue
        found[suffix] = FileState(stat.st_size, stat.st_mtime_ns, stat.st_ino)
    return found


def check_is_database(path: Path) -> None:
    """Raises AdoptionError unless this is a file that begins as SQLite's do."""
    if path.is_dir():
        raise AdoptionError(f"{path} is a directory: name the database file in it, as {path / 'config.db'}")
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except FileNotFoundError:
        raise AdoptionError(f"{path} does not exist: name NOFX's database file, usually config.db") from None
    except OSError as error:
        raise AdoptionError(f"{path} cannot be read: {error.strerror}") from error
    if start != b"SQLite format 3\0":
        raise AdoptionError(f"{path} is not a SQLite database: name NOFX's database file, usually config.db")


def _read(path: Path, files: dict[str, FileState], into: sqlite3.Connection) -> str:
    """Copy the database into memory; how it was found."""
    journal = files.get("-journal")
    has_wal = "-wal" in files and files["-wal"].size > 0
    if journal is not None and journal.size > 0:
        _copy_privately(path, into)
        return "left_over"
    if "-shm" in files and "-wal" in files:
        try:
            _backup(path, "mode=ro&readonly_shm=1", into)
        except sqlite3.OperationalError:  # nobody has it open, and the index cannot be rebuilt
            _copy_privately(path, into)
            return "left_over"
        return "wal"
    if has_wal:
        _copy_privately(path, into)
        return "left_over"
    _backup(path, "mode=ro&immutable=1", into)
    return "clean"


def _backup(path: Path, options: str, into: sqlite3.Connection) -> None:
    with closing(sqlite3.connect(f"file:{quote(str(path.absolute()))}?{options}", uri=True)) as connection:
        connection.backup(into)


def _copy_privately(path: Path, into: sqlite3.Connection) -> None:
    """Read a copy in which SQLite may recover what is in the -wal or the journal."""
    memory = str(_MEMORY_DIRECTORY) if _MEMORY_DIRECTORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="nofx-grpc-", dir=memory) as directory:
        copy = Path(directory) / "copy.db"
        for suffix in ("", "-wal", "-journal"):
            original = path.with_name(path.name + suffix)
            if original.exists():
                copyfile(original, copy.with_name(copy.name + suffix))
        _backup(copy, "mode=rw", into)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return NotUtf8(raw)  # type: ignore[return-value]  # told apart by its type, where values are converted


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
