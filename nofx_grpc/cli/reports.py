"""What the command says at its end: exit codes, and errors in plain words."""

import json
import sys
from collections.abc import Mapping

from nofx_grpc.errors import NofxError, StartError, StoreFull, Unavailable

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_CANNOT_START = 3
EXIT_INTERNAL = 70
EXIT_INTERRUPTED = 130


class CommandFailed(Exception):
    """What a command was asked for is not done: why, by a name of the enum Reason or of a gRPC status, and in words."""

    def __init__(self, reason: str, message: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.reason, self.message, self.exit_code = reason, message, exit_code


def report_error(error: NofxError | CommandFailed, *, as_json: bool) -> int:
    """Say on standard error why nothing was done, and on standard output, too, where a report is due; the exit code."""
    for line in error.message.splitlines():
        say(line)
    if as_json:
        print_json({"error": {"reason": error.reason, "message": error.message}})
    if isinstance(error, CommandFailed):
        return error.exit_code
    return EXIT_CANNOT_START if isinstance(error, StartError | Unavailable | StoreFull) else EXIT_FAILED


def say(text: str) -> None:
    """Tell people something on standard error, on one line."""
    from nofx_grpc.redaction import escaped

    print(f"nofx-grpc: {escaped(text)}", file=sys.stderr, flush=True)


def print_json(report: Mapping[str, object]) -> None:
    """Print a report on one line."""
    print(json.dumps(report))
