"""Opening what lies below the root, step by step: no symbolic link is followed."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from nofx_grpc.decisions.records import NotAllowed, NotARecord
from nofx_grpc.errors import StoreUnavailable

DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # not to wait for whom a pipe waits for
_NO_FOLDER: Final = {errno.ELOOP, errno.ENOTDIR}
# What the file itself is to blame for; anything else (no descriptor left, a disk that fails) may pass.
_NO_FILE: Final = {errno.EACCES, errno.EPERM, errno.ENXIO}


def enter(part: str, descriptor: int, *, make: bool) -> int:
    """A descriptor of a folder in the one of `descriptor`.  Raises FileNotFoundError, StoreUnavailable."""
    try:
        return os.open(part, DIRECTORY, dir_fd=descriptor)
    except FileNotFoundError:
        if not make:
            raise
    except OSError as error:
        why = "it is a symbolic link, or no folder" if error.errno in _NO_FOLDER else error.strerror
        raise StoreUnavailable(f"a folder of the decision logs cannot be entered: {why}") from error
    try:
        os.mkdir(part, 0o700, dir_fd=descriptor)
        os.fsync(descriptor)
    except FileExistsError:
        pass  # another process was faster
    return os.open(part, DIRECTORY, dir_fd=descriptor)


def open_file(name: str, directory: int) -> int:
    """A descriptor of a file.  Raises FileNotFoundError, OSError, NotARecord for what is none."""
    try:
        return os.open(name, FILE, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotARecord("it is a symbolic link") from None
        if error.errno in _NO_FILE:
            raise NotAllowed(f"it cannot be read: {error.strerror}") from None
        raise


@contextmanager
def no_verdict() -> Iterator[None]:
    """What keeps a file from being read now says nothing of the file.  Raises StoreUnavailable, FileNotFoundError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # there is none
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from error
        raise StoreUnavailable(f"a file of the decision logs cannot be read: {error.strerror}") from error
