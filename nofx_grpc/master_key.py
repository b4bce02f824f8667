"""Where the master key comes from: the environment, a file, or what a command prints.  Exactly one of them decides."""

import os
import shlex
import signal
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

import structlog

from nofx_grpc.crypto.keyring import new_master_text
from nofx_grpc.data_dir import write_private
from nofx_grpc.errors import MasterKeyError
from nofx_grpc.settings import Settings

MOST_STDERR = 2000  # characters of a command's complaint that are shown

logger = structlog.get_logger(__name__)


def master_key_text(settings: Settings, *, new: bool) -> str:
    """The master key of these settings; made only where there is nothing yet that it would have to open.

    Raises MasterKeyError, and StartError if a new one cannot be written.
    """
    path = settings.master_key_file
    if settings.data_encryption_key is not None or settings.master_key_command is not None:
        if path.exists():
            logger.warning("master_key_file_not_used", path=str(path), advice="another setting says what the key is")
        if settings.data_encryption_key is not None:
            return settings.data_encryption_key.get_secret_value()
        return from_command(settings.master_key_command or "", settings.master_key_command_seconds)
    text = from_file(path)
    if text is None and not new:
        raise MasterKeyError(
            "there is no master key: set DATA_ENCRYPTION_KEY or NOFX_GRPC_MASTER_KEY_COMMAND, or put the key into "
            f"{path}. A new one is made only for a new database in a data directory that is empty or missing"
        )
    return make(path) if text is None else text


def from_file(path: Path) -> str | None:
    """The master key of a file, or None if there is no such file.  Raises MasterKeyError if it cannot be read."""
    try:
        text = path.read_text()
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise MasterKeyError(f"the master key in {path} cannot be read: {reason}") from error
    if mode & 0o077:
        logger.warning("master_key_open_to_others", path=str(path), mode=f"{mode:04o}", expected="0600")
    return text


def from_command(command: str, seconds: float) -> str:
    """The master key that a command prints; it is run as it stands, by no shell.

    Raises MasterKeyError, which tells how the command ended and what it said on standard error, never what it printed.
    """
    name, *arguments = shlex.split(command)
    try:
        process = subprocess.Popen(  # noqa: S603  # to run the operator's command is what the setting is for
            [name, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise MasterKeyError(f"the master key command {name!r} cannot be run: {error.strerror}") from error
    with process:
        try:
            printed, said = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise MasterKeyError(f"the master key command {name!r} did not end within {seconds:g} seconds") from None
        finally:
            # Whatever it has started goes with it, or it could keep the pipes open.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    complaint = _without_key(said.decode(errors="replace"), printed)[-MOST_STDERR:]
    if process.returncode != 0:
        ended = f"ended with exit code {process.returncode}" if process.returncode > 0 else "was killed"
        raise MasterKeyError(f"the master key command {name!r} {ended}: {complaint or 'it did not say why'}")
    if said:  # what it was may be its trace, tokens and all: whoever wants to see it runs the command
        logger.warning("master_key_command_said", command=name, stderr_bytes=len(said))
    return _only_line(printed, name)


def _without_key(said: str, printed: bytes) -> str:
    """What a command said, but for the lines that hold a line of what it printed."""
    keys = {line.strip() for line in printed.decode(errors="replace").splitlines() if line.strip()}
    return "\n".join(line for line in said.splitlines() if not any(key in line for key in keys)).strip()


def make(path: Path) -> str:
    """Make a master key and put it into its file.  Raises StartError."""
    text = new_master_text(os.urandom)
    write_private(path, text + "\n")
    return text


def _only_line(printed: bytes, name: str) -> str:
    """What a command has printed.  Raises MasterKeyError unless it is one line of text, for more would be a passphrase
    that nobody meant.
    """
    try:
        lines = printed.decode().strip().splitlines()
    except UnicodeDecodeError:
        raise MasterKeyError(f"the master key command {name!r} printed what is not text") from None
    if len(lines) != 1:
        raise MasterKeyError(
            f"the master key command {name!r} printed {len(lines)} lines: expected the key and no more"
        )
    return lines[0]
