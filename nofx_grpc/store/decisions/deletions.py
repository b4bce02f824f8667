"""Whoever brings records back waits for those who are about to delete their files.

To ask whether a record is still said to be removed, and to delete its file, are two steps.  Both are made under a
shared lock on the mark of the root, which ends with its process: once a note is taken back and the lock was free,
nobody deletes by that note any more.  On a disk that has no locks nobody waits.
"""

import errno
import fcntl
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

from nofx_grpc.errors import StoreUnavailable
from nofx_grpc.store.decisions.marks import MARK

_NO_LOCKS: Final = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}


def begin(root: Path) -> AbstractContextManager[object]:
    """A deletion, which lasts until what this returns is left; not on the event loop.  Raises StoreUnavailable."""
    return _locked(root, "rb", fcntl.LOCK_SH)


def wait(root: Path) -> None:
    """Wait for the deletions that have begun; not on the event loop.  Raises StoreUnavailable."""
    with _locked(root, "r+b", fcntl.LOCK_EX):  # a network file system wants to be able to write for this one
        pass


def _locked(root: Path, mode: str, how: int) -> AbstractContextManager[object]:
    try:
        file = (root / MARK).open(mode)
    except FileNotFoundError:  # a root that is not marked cannot be written to, or is missing
        return nullcontext()
    except OSError as error:
        raise _unavailable(error) from error
    try:
        fcntl.flock(file, how)
    except OSError as error:
        file.close()
        if error.errno in _NO_LOCKS:
            return nullcontext()
        raise _unavailable(error) from error
    return file


def _unavailable(error: OSError) -> StoreUnavailable:
    return StoreUnavailable(f"the directory of the decision logs cannot be locked: {error.strerror}")
