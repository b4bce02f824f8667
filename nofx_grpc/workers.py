"""Several processes that serve one address: the parent, which starts them, replaces one that dies, and ends them.

The parent serves nothing itself.  It holds the address and the data directory, so that the workers, which share the
port by SO_REUSEPORT, share it with nobody else.  A worker is a fresh process (`nofx_grpc.cli.worker`), never a fork:
gRPC does not survive one.  It is told its settings by a pipe, and to end by the end of that pipe: so it ends, too, when
the parent is killed.
"""

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from contextlib import ExitStack, suppress
from typing import Any, cast

import structlog
import uvloop
from pydantic import SecretStr

from nofx_grpc import data_dir
from nofx_grpc.errors import StartError
from nofx_grpc.lifecycle import Announce, protect_process, stop_on_signals
from nofx_grpc.rpc.listening import reserved
from nofx_grpc.settings import Settings

logger = structlog.get_logger(__name__)

# -P: not from the working directory, which may be anybody's.
COMMAND = (sys.executable, "-P", "-m", "nofx_grpc.cli.worker")
READY = b"ready\n"
# A worker that has lived for so long did not die of what it was started with.
STEADY_SECONDS = 30.0
FIRST_PAUSE_SECONDS = 0.5
MOST_DEATHS = 6  # in a row; the pauses between them come to a quarter of a minute
# What a worker may take to end beyond the time that it gives to the calls in flight.
END_SECONDS = 20.0


def serve(settings: Settings, announce: Announce) -> None:
    """Serve with as many workers as the settings say until SIGTERM or SIGINT; `announce` is told the addresses.

    Raises StartError, also when a worker dies again and again.  A second signal kills the workers and ends the process
    at once, with the status 128 + signal.
    """
    protect_process()
    data_dir.prepare(settings.data_dir)
    with data_dir.held(settings.data_dir), ExitStack() as held:
        names = ["listen"] + (["mtls_listen"] if settings.mtls_listen else [])
        addresses = {name: held.enter_context(reserved(getattr(settings, name))) for name in names}
        uvloop.run(keep_all(settings.model_copy(update=addresses), announce))


async def keep_all(settings: Settings, announce: Announce) -> None:
    """Keep all workers running until SIGTERM or SIGINT.  Raises StartError if one is given up."""
    workers = [Worker(number, settings) for number in range(1, settings.workers + 1)]
    stopping = stop_on_signals(at_once=lambda: _kill(workers))
    over: list[asyncio.Task[Any]] = [asyncio.create_task(stopping.wait())]  # when one of these is done, all is over
    try:
        # The first one alone at first: it migrates the database, or tells why it cannot.
        if await _started(workers[:1], over) and await _started(workers[1:], over):
            logger.info("serving", address=settings.listen, workers=len(workers))
            announce(settings, settings.listen, settings.mtls_listen or "")
            await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped, *kept = over
        stopped.cancel()
        await _end(workers, kept, settings.shutdown_grace_seconds + END_SECONDS)
    for failure in filter(None, [task.exception() for task in kept]):
        raise failure  # what a worker was given up for
    logger.info("stopped")


async def _started(workers: "list[Worker]", over: "list[asyncio.Task[Any]]") -> bool:
    """Start workers, each kept by a task that is added to `over`; whether all serve before one of these is done."""
    over += [asyncio.create_task(worker.keep()) for worker in workers]
    for worker in workers:
        ready = asyncio.create_task(worker.ready.wait())
        await asyncio.wait([ready, *over], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
    return not any(task.done() for task in over)


async def _end(workers: "list[Worker]", kept: "list[asyncio.Task[Any]]", seconds: float) -> None:
    """Tell every worker to end, and wait for them; one that does not is killed."""
    for worker in workers:
        worker.end()
    _, late = await asyncio.wait(kept, timeout=seconds)
    if late:
        logger.error("workers_killed", reason=f"they did not end within {seconds:g} seconds")
        _kill(workers)
        await asyncio.wait(late)


def _kill(workers: "list[Worker]") -> None:
    for worker in workers:
        worker.kill()


class Worker:
    """One of the workers: a process, and the next one when it dies."""

    def __init__(self, number: int, settings: Settings) -> None:
        self.number = number
        self.ready = asyncio.Event()  # set once the first process serves
        self._order = order_for(number, settings)
        self._process: Process | None = None
        self._ending = asyncio.Event()

    async def keep(self) -> None:
        """Keep a process running until `end`.  Raises StartError if they die again and again, or the first does not
        come to serve.
        """
        deaths = 0
        while not self._ending.is_set():
            started = time.monotonic()
            status = await self._run()
            if self._ending.is_set():
                return
            if not self.ready.is_set():
                raise StartError(f"worker {self.number} could not start: {_in_words(status)}")
            deaths = deaths + 1 if time.monotonic() - started < STEADY_SECONDS else 1
            if deaths >= MOST_DEATHS:
                raise StartError(
                    f"worker {self.number} has died {deaths} times in a row, last with {_in_words(status)}: given up"
                )
            pause = FIRST_PAUSE_SECONDS * 2 ** (deaths - 1)
            logger.error("worker_died", worker=self.number, status=_in_words(status), restart_in_seconds=pause)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._ending.wait()

    def end(self) -> None:
        """Have the process drain and end, and start no other."""
        self._ending.set()
        if self._process is not None:
            _input_of(self._process).close()

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _run(self) -> int:
        """Run a process to its end; its status."""
        process = await asyncio.create_subprocess_exec(*COMMAND, stdin=PIPE, stdout=PIPE, env=_environment())
        self._process = process
        if self._ending.is_set():
            _input_of(process).close()
        else:
            _input_of(process).write(self._order)
        if await cast("asyncio.StreamReader", process.stdout).readline() == READY:
            logger.debug("worker_serves", worker=self.number, pid=process.pid)
            self.ready.set()
        return await process.wait()


def _input_of(process: Process) -> asyncio.StreamWriter:
    return cast("asyncio.StreamWriter", process.stdin)


def order_for(number: int, settings: Settings) -> bytes:
    """What a worker is told: its number and its settings, secrets in clear, on one line."""
    values = {name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in settings}
    return json.dumps({"number": number, "settings": values}, default=str).encode() + b"\n"


def _environment() -> dict[str, str]:
    """The parent's own; and a worker finds the modules that the parent has found."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _in_words(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    with suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"
