"""The folders of the records on disk.  Nothing outside the root is reached: each step refuses a symbolic link.

A record is written whole under a name of no meaning in `.pending`, made durable there, and gets its own name in one
step; so a folder never shows half a record, and a process that is killed leaves nothing but a file in `.pending`.
Whoever needs more than that asks for it by `make_durable` and `settle`, each of which waits for the disk.
"""

import errno
import os
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from nofx_grpc.decisions.names import SUFFIX, plain_folder, spelt_folder
from nofx_grpc.decisions.records import MOST_BYTES, NotARecord
from nofx_grpc.errors import StoreFull, StoreUnavailable
from nofx_grpc.store.decisions import marks
from nofx_grpc.store.decisions.opening import DIRECTORY, FILE, NEW, enter, no_verdict, open_file

PENDING: Final = ".pending"
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}  # of file systems without hard links


class Stamp(NamedTuple):
    """Size and time of change of a file: as long as both are the same, so is what is in it."""

    size: int
    changed_ns: int


class Folders:
    """Reads and writes below one root directory.

    What writes raises StoreFull if there is no room, StoreUnavailable for whatever else the file system says.  What
    reads raises FileNotFoundError, and StoreUnavailable for what cannot be entered, or read, for now.
    """

    def __init__(self, root: Path, *, durable: bool = True) -> None:
        self.root, self._sync = root, os.fsync if durable else _ignore
        self.mark = ""  # what the root must say, where it is known
        self._marked: tuple[int, ...] = ()  # the root as it was when it said so

    def is_there(self) -> bool:
        """Whether there is the root directory, and not merely the place where it is mounted."""
        return self.root.is_dir() and (not self.mark or marks.read(self.root) == self.mark)

    def find(self, trader_id: str) -> str | None:
        """The folder that a trader has on disk; None if it has none."""
        plain = plain_folder(trader_id)
        if plain is not None and self._has(plain):
            return plain
        spelt = spelt_folder(trader_id)
        return spelt if self._has(spelt) else None

    def is_taken(self, folder: str) -> bool:
        """Whether something, be it no folder, has the place of this folder; or no folder that of one around it."""
        path = self.root
        for part in folder.split("/"):
            path /= part
            try:
                if not stat.S_ISDIR(os.lstat(path).st_mode):
                    return True
            except FileNotFoundError:
                return False
            except OSError:
                return True
        return True

    def mtime(self, folder: str) -> int:
        """When a name was last added to the folder, or taken away.  Raises OSError."""
        status = os.lstat(f"{self.root}/{folder}")
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return status.st_mtime_ns

    def names(self, folder: str) -> Iterator[str]:
        """The names in the folder, without those of folders in it, in no order and not all held at one time."""
        with self._opened(folder) as directory, os.scandir(directory) as found:
            yield from (entry.name for entry in found if not entry.is_dir(follow_symlinks=False))

    def stamp(self, folder: str, name: str, *, of_any_change: bool = False) -> Stamp:
        """The stamp of a file, at choice with the time of its last change of any kind, be it of who may read it."""
        with self._opened(folder) as directory:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        return Stamp(status.st_size, status.st_ctime_ns if of_any_change else status.st_mtime_ns)

    def read(self, folder: str, name: str) -> tuple[Stamp, bytes]:
        """A file and its stamp.  Raises NotARecord for what is no file, and for one that is too large."""
        with no_verdict(), self._opened(folder) as directory:
            descriptor = open_file(name, directory)
        with no_verdict(), os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise NotARecord("it is no file")
            if status.st_size > MOST_BYTES:
                raise NotARecord(f"it has {status.st_size} bytes; a record has {MOST_BYTES} at most")
            return Stamp(status.st_size, status.st_mtime_ns), file.read(MOST_BYTES + 1)

    def stage(self, data: bytes) -> str:
        """Write a file into `.pending`; its name there.  It is not durable yet."""
        token = secrets.token_hex(12)
        with _explained(), self._opened(PENDING, make=True) as directory:
            try:
                with os.fdopen(os.open(token, NEW, 0o600, dir_fd=directory), "wb") as file:
                    file.write(data)
            except OSError:
                _unlink(token, directory)
                raise
        return token

    def make_durable(self, token: str) -> None:
        """Make a staged file durable."""
        with _explained(), self._opened(PENDING) as directory:
            file = os.open(token, FILE, dir_fd=directory)
            try:
                self._sync(file)
            finally:
                os.close(file)

    def publish(self, folder: str, token: str, name: str) -> bool:
        """Give a staged file its name, which is not durable yet; whether it got it.

        What has the name already stays, and the staged file goes.  Where there are no hard links, something that takes
        the name between the look and the step is replaced.
        """
        with _explained(), self._opened(PENDING) as pending, self._opened(folder, make=True) as directory:
            try:
                os.link(token, name, src_dir_fd=pending, dst_dir_fd=directory, follow_symlinks=False)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                if _is_there(name, directory):
                    return False
                os.rename(token, name, src_dir_fd=pending, dst_dir_fd=directory)
                return True
            finally:
                _unlink(token, pending)
        return True

    def settle(self, folder: str) -> None:
        """Make the names in a folder durable."""
        with _explained(), self._opened(folder) as directory:
            self._sync(directory)

    def put(self, folder: str, name: str, data: bytes) -> None:
        """Write a file, which appears under its name whole and durable."""
        token = self.stage(data)
        try:
            self.make_durable(token)
            self.publish(folder, token, name)
        except StoreUnavailable:
            self.discard(token)
            raise
        self.settle(folder)

    def discard(self, token: str) -> None:
        """Delete a staged file."""
        with _explained(), suppress(FileNotFoundError), self._opened(PENDING) as directory:
            os.unlink(token, dir_fd=directory)

    def staged_before(self, age_seconds: float) -> list[str]:
        """The staged files that are older than this."""
        before = time.time() - age_seconds
        try:
            with self._opened(PENDING) as directory, os.scandir(directory) as found:
                return [entry.name for entry in found if entry.stat(follow_symlinks=False).st_mtime < before]
        except FileNotFoundError:
            return []

    def remove(self, folder: str, ids: Sequence[str]) -> None:
        """Delete the files of records; those that are gone are gone, be it with their folder.

        One that cannot be deleted keeps nobody from the others: the first error is raised once all were tried.
        """
        if not ids:
            return
        failed: OSError | None = None
        with _explained():
            try:
                with self._opened(folder) as directory:
                    for id in ids:
                        try:
                            _unlink(id + SUFFIX, directory)
                        except OSError as error:
                            failed = failed or error
                    os.fsync(directory)
            except FileNotFoundError:
                if not self.is_there():
                    raise
            if failed is not None:
                raise failed

    def there(self, folder: str, ids: Sequence[str]) -> list[str]:
        """Those of these records that have files.  Raises StoreUnavailable if nobody can tell."""
        try:
            with no_verdict(), self._opened(folder) as directory:
                return [id for id in ids if _is_there(id + SUFFIX, directory)]
        except FileNotFoundError:
            if not self.is_there():
                raise StoreUnavailable("the directory of the decision logs is missing") from None
            return []

    def has(self, folder: str, name: str) -> bool:
        """Whether there is something of this name."""
        try:
            with no_verdict():
                self.stamp(folder, name)
        except FileNotFoundError:
            return False
        return True

    def _has(self, folder: str) -> bool:
        """Whether there is this folder, in this very case."""
        try:
            with self._opened(folder):
                pass
            path = self.root / folder
            return any(other.name == path.name for other in path.parent.iterdir())
        except (OSError, StoreUnavailable):
            return False

    @contextmanager
    def _opened(self, folder: str, *, make: bool = False) -> Iterator[int]:
        """A descriptor of the folder, reached step by step.

        Nothing is made in the place where the root should be mounted.
        """
        if make and not self.mark:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.root, DIRECTORY & ~os.O_NOFOLLOW)
        try:
            if make and self.mark:
                self._check_mark(os.fstat(descriptor))
            for part in folder.split("/"):
                inner = enter(part, descriptor, make=make)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)

    def _check_mark(self, root: os.stat_result) -> None:
        """Raises FileNotFoundError unless the root says what it must; it is read again once the root has changed."""
        now = (root.st_dev, root.st_ino, root.st_mtime_ns)
        if now != self._marked:
            if marks.read(self.root) != self.mark:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            self._marked = now


def _ignore(descriptor: int) -> None:
    """For copies that can be made again."""


def _is_there(name: str, directory: int) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _unlink(name: str, directory: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


@contextmanager
def _explained() -> Iterator[None]:
    """Put an error of the file system into words for a client: no path of ours in them."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFull from error
        raise StoreUnavailable(f"the directory of the decision logs cannot be written: {error.strerror}") from error
