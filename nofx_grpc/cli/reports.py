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


def report_error(error: NofxError, *, as_json: bool) -> int:
    """Say on standard error why nothing was done, and on standard output, too, where a report is due; the exit code."""
    from nofx_grpc.redaction import escaped

    for line in error.message.splitlines():
        print(f"nofx-grpc: {escaped(line)}", file=sys.stderr)
    if as_json:
        print_json({"error": {"reason": error.reason, "message": error.message}})
    return EXIT_CANNOT_START if isinstance(error, StartError | Unavailable | StoreFull) else EXIT_FAILED


def print_json(report: Mapping[str, object]) -> None:
    """Print a report on one line."""
    print(json.dumps(report))
