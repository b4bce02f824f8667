"""One worker of several: `python -m nofx_grpc.cli.worker`, started by `nofx_grpc.workers` and by nobody else.

The first line of standard input holds its number and its settings.  When standard input ends, it drains and ends:
the parent wants it to, or is gone.  Signals are for the parent.
"""

import asyncio
import json
import signal
import sys

import structlog
import uvloop

from nofx_grpc import lifecycle, logs
from nofx_grpc.cli.reports import report_error
from nofx_grpc.errors import NofxError
from nofx_grpc.settings import Settings

logger = structlog.get_logger(__name__)


def main() -> int:
    """Serve until standard input ends; the exit code."""
    for number in lifecycle.SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    line = sys.stdin.buffer.readline()
    if not line:  # the parent has changed its mind
        return 0
    order = json.loads(line)
    settings = Settings.model_validate(order["settings"])
    logs.configure(settings.log_level, settings.log_format, worker=order["number"])
    lifecycle.protect_process()
    try:
        uvloop.run(_serve(settings))
    except NofxError as error:
        return report_error(error, as_json=False)
    return 0


async def _serve(settings: Settings) -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _on_input, stopping)
    await lifecycle.run(settings, stopping, lambda *_: print("ready", flush=True))


def _on_input(stopping: asyncio.Event) -> None:
    """Nothing more is said to a worker, so what can be read is the end."""
    asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
    stopping.set()


if __name__ == "__main__":
    sys.exit(main())
