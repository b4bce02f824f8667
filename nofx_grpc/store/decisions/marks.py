"""The file by which a root directory says which one it is; the place where it should be mounted says nothing."""

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from nofx_grpc.store.decisions.opening import NEW

MARK: Final = ".id"


def read(root: Path) -> str | None:
    """What a root says that it is; None if it says nothing, or is missing."""
    try:
        return (root / MARK).read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def make(root: Path, text: str) -> str:
    """Have a root, which is made if it is missing, say what it is; what it says if it does already.  Raises OSError."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = root / f"{MARK}.{secrets.token_hex(6)}"
    try:
        with os.fdopen(os.open(new, NEW, 0o600), "w", encoding="utf-8") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(new, root / MARK)
    finally:
        new.unlink(missing_ok=True)
    for directory in (root, root.parent):
        _sync_directory(directory)
    return read(root) or ""


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
