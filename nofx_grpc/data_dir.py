"""The data directory: what the first start puts there, readable by its owner only."""

import contextlib
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import structlog

from nofx_grpc.crypto.encoding import Random
from nofx_grpc.crypto.tokens import new_token_secret, token_hash
from nofx_grpc.errors import StartError
from nofx_grpc.services.roles import ROLES
from nofx_grpc.store.tokens import Token

logger = structlog.get_logger(__name__)

# What a new file system has of itself, and what a first start that was killed may have left before it made the key.
_LEFTOVERS = ("lost+found",)
_LEFTOVER_SUFFIXES = (".lock", ".new")


def prepare(directory: Path) -> None:
    """Make the data directory if it is missing; warn if others can look into it.  Raises StartError."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = stat.S_IMODE(directory.stat().st_mode)
    except OSError as error:
        raise StartError(f"the data directory {directory} cannot be made: {error.strerror}") from error
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise StartError(f"the data directory {directory} cannot be written to: check its owner and its mode")
    if mode & 0o077:
        logger.warning("data_directory_open_to_others", path=str(directory), mode=f"{mode:04o}", expected="0700")


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the directory while the store is made or opened: of two first starts only one makes the key."""
    with os.fdopen(os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold the directory for a server of several workers, for as long as it runs.  Raises StartError if one does."""
    with os.fdopen(os.open(directory / ".workers.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(f"another server with workers runs over the data directory {directory}") from None
        yield


def is_unused(directory: Path) -> bool:
    """Tell whether nothing was ever kept in the directory: no key, no tokens, nothing of somebody else."""
    return all(path.name in _LEFTOVERS or path.name.endswith(_LEFTOVER_SUFFIXES) for path in directory.iterdir())


def bootstrap_tokens(directory: Path, random: Random) -> Callable[[datetime], list[Token]]:
    """What makes one token per role, each in a file of its own; they work on loopback and Unix sockets only."""

    def make(now: datetime) -> list[Token]:
        directory.mkdir(mode=0o700, exist_ok=True)
        secrets = {role: new_token_secret(random) for role in ROLES}
        for role, secret in secrets.items():
            write_private(directory / role, secret)
        return [_bootstrap_token(role, secret, now) for role, secret in secrets.items()]

    return make


def _bootstrap_token(role: str, secret: str, now: datetime) -> Token:
    return Token(
        id=f"bootstrap-{role}",
        hash=token_hash(secret),
        display_name=f"first start: {role}",
        role=role,
        user_id="",
        reveal=False,
        reveal_system=False,
        bootstrap=True,
        created_at=now,
        expires_at=None,
        revoked_at=None,
        last_used_at=None,
    )


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all, and durable.  Raises StartError."""
    try:
        _write_private(path, text)
    except OSError as error:
        raise StartError(f"{path} cannot be written: {error.strerror}") from error


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)  # one that is there could have another mode
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
