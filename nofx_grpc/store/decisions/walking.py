"""All folders that there are, and what is passed over among them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from nofx_grpc.decisions.names import trader_of_folder
from nofx_grpc.store.decisions.folders import PENDING, Folders
from nofx_grpc.store.decisions.marks import MARK

# A path, why it is passed over, and how many files that is at least.
PassOver = Callable[[str, str, int], None]


def all_folders(root: Path, pass_over: PassOver = lambda path, why, files: None) -> Iterator[str]:
    """Every folder below the root that can be a trader's and has files, in no order; `pass_over` hears of the rest."""

    def cannot_be_read(error: OSError) -> None:
        pass_over(_path(root, error.filename), f"it cannot be read: {error.strerror}", 1)

    for directory, folders, files in os.walk(root, onerror=cannot_be_read):
        folder = _path(root, directory)
        for link in filter(Path.is_symlink, (Path(directory, name) for name in folders)):
            pass_over(_path(root, link), "it is a symbolic link", 1)
        if folder == ".":
            folders[:] = [name for name in folders if name != PENDING]
            for name in files:
                if not name.startswith(MARK):
                    pass_over(name, "it is in no trader's folder", 1)
        elif files and trader_of_folder(folder) is not None:
            yield folder
        elif files:
            pass_over(folder, "no trader's folder has such a name", len(files))


def count_files(folders: Folders) -> int:
    """How many files there are, in all folders."""
    return sum(1 for folder in all_folders(folders.root) for _ in folders.names(folder))


def _path(root: Path, place: str | Path) -> str:
    return Path(place).relative_to(root).as_posix()
