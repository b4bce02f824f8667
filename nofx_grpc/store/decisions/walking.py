"""All folders that there are, and what is passed over among them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from nofx_grpc.decisions.names import trader_of_folder
from nofx_grpc.store.decisions.folders import PENDING, Folders
from nofx_grpc.store.decisions.marks import MARK


class PassOver(Protocol):
    """Hears what is passed over, and why, how many files that is at least, and whether it could not be read."""

    def __call__(self, path: str, why: str, files: int = 1, *, unread: bool = False) -> None: ...


def ignore(path: str, why: str, files: int = 1, *, unread: bool = False) -> None:
    """For those who count what there is."""


def all_folders(root: Path, pass_over: PassOver = ignore) -> Iterator[str]:
    """Every folder below the root that can be a trader's and has files, in no order; `pass_over` hears of the rest."""

    def cannot_be_read(error: OSError) -> None:
        pass_over(_path(root, error.filename), f"it cannot be read: {error.strerror}", unread=True)

    for directory, folders, files in os.walk(root, onerror=cannot_be_read):
        folder = _path(root, directory)
        for link in filter(Path.is_symlink, (Path(directory, name) for name in folders)):
            pass_over(_path(root, link), "it is a symbolic link")
        if folder == ".":
            folders[:] = [name for name in folders if name != PENDING]
            for name in files:
                if not name.startswith(MARK):
                    pass_over(name, "it is in no trader's folder")
        elif files and trader_of_folder(folder) is not None:
            yield folder
        elif files:
            pass_over(folder, "no trader's folder has such a name", len(files))


def count_files(folders: Folders) -> int:
    """How many files there are, in all folders."""
    return sum(1 for folder in all_folders(folders.root) for _ in folders.names(folder))


def _path(root: Path, place: str | Path) -> str:
    return Path(place).relative_to(root).as_posix()
