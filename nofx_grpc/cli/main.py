"""The command `nofx-grpc`."""

import os
import sys
import traceback

from nofx_grpc.cli.reports import EXIT_FAILED, EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_OK, CommandFailed, report_error
from nofx_grpc.errors import NofxError


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    # gRPC's core writes bytes of its peers into the log as they came, so that anybody who connects could forge lines of
    # it.  It asks for its verbosity once, when it is imported; workers inherit it.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        _run(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else EXIT_FAILED
    except (NofxError, CommandFailed) as error:
        return report_error(error, as_json="--json" in arguments)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception:  # noqa: BLE001  # the exit code must not be that of a failed check
        from nofx_grpc.redaction import escaped

        for line in traceback.format_exc().splitlines():  # a mistake of ours: whoever mends it needs to see where
            print(escaped(line), file=sys.stderr)
        return EXIT_INTERNAL
    return EXIT_OK


def _run(arguments: list[str]) -> None:
    # Health is asked for every few seconds.  Typer, and pydantic for which it reads options, would triple the cost.
    if arguments[:1] == ["health"]:
        from nofx_grpc.cli import health

        health.run(arguments[1:])
    else:
        from nofx_grpc.cli.commands import app

        app(args=arguments, prog_name="nofx-grpc")
