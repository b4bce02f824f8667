"""What becomes full under a server of PostgreSQL: a small disk of its own, or files that must not grow."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import psycopg
import pytest

from tests.support.cluster import Node

MIB = 1024 * 1024


class Disk(Protocol):
    """Where a server keeps its data."""

    refusal: str  # the reason that a caller is told when there is no room
    says: str  # what PostgreSQL says of it

    def fill(self, node: Node) -> None:
        """From now on there is no room for more rows."""

    def fill_with_log(self, node: Node) -> None:
        """From now on there is no room for PostgreSQL's log either: it goes down."""

    def free(self, node: Node) -> None:
        """There is room again."""


class SmallDisk:
    """A file system in memory, filled to the last byte by a file beside the server's."""

    refusal, says = "STORE_FULL", "No space left on device"

    def __init__(self, directory: Path) -> None:
        self._ballast = directory / "ballast"

    def fill(self, node: Node) -> None:
        with self._ballast.open("ab", buffering=0) as file:
            for size in (MIB, 4096):
                while _written(file.fileno(), size):
                    pass

    def fill_with_log(self, node: Node) -> None:
        self.fill(node)
        _write_log(node)

    def free(self, node: Node) -> None:
        self._ballast.unlink()


class SmallFiles:
    """A limit to the size of each file, which anybody may set; PostgreSQL has no code for this one."""

    refusal, says = "STORE_UNAVAILABLE", "File too large"

    def fill(self, node: Node) -> None:
        node.limit_files(MIB)  # as large as a segment of the log

    def fill_with_log(self, node: Node) -> None:
        node.limit_files(MIB // 16)
        _write_log(node)

    def free(self, node: Node) -> None:
        node.limit_files(None)


@contextmanager
def small_disk(directory: Path, mebibytes: int) -> Iterator[Disk]:
    """A disk of so many MiB at the directory; files that must not grow where no file system may be mounted."""
    options = ["-o", f"size={mebibytes}m", "nofx-test", str(directory)]
    mounting = shutil.which("mount")
    if not mounting or subprocess.run([mounting, "-t", "tmpfs", *options], capture_output=True, check=False).returncode:
        yield SmallFiles()
        return
    try:
        yield SmallDisk(directory)
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def _write_log(node: Node) -> None:
    """Write to PostgreSQL's log until there is no room for more."""
    with pytest.raises(psycopg.OperationalError):
        for _ in range(1000):
            node.execute("SELECT pg_logical_emit_message(false, 'test', repeat('x', 500000))")


def _written(file: int, size: int) -> bool:
    try:
        return os.write(file, bytes(size)) == size
    except OSError:
        return False
