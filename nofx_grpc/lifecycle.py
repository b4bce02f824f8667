"""The life of the server process: start, say where it serves, work until a signal, drain, close the store."""

import asyncio
import ctypes
import gc
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import structlog
import uvloop

from nofx_grpc.app import App, build_app
from nofx_grpc.rpc.reloading import keep_looking
from nofx_grpc.settings import Settings

logger = structlog.get_logger(__name__)

_SET_DUMPABLE = 4  # PR_SET_DUMPABLE of linux/prctl.h
# What the last writes may take once the calls in flight have ended, and again what it takes to close the store.
LAST_SECONDS = 6.0
SIGNALS = (signal.SIGTERM, signal.SIGINT)


# Is told where the server is, and where for callers with certificates; '' for nowhere.
Announce: TypeAlias = Callable[[Settings, str, str], None]


def serve(settings: Settings, announce: Announce) -> None:
    """Serve until SIGTERM or SIGINT, and return when all is closed.  Raises StartError.

    A second signal ends the process at once, with the status 128 + signal, as if it had been killed.
    """
    protect_process()
    uvloop.run(_serve(settings, announce))


def protect_process() -> None:
    """Keep keys and secrets inside: no core dumps, and every file that is made is its owner's only.

    The limit says nothing where core dumps are piped to a program, as most distributions have it.  On Linux the process
    is therefore marked as well; so no other process of its user reads its memory or environment either.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(_SET_DUMPABLE, 0, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "the process cannot be kept from being dumped")


async def _serve(settings: Settings, announce: Announce) -> None:
    await run(settings, stop_on_signals(), lambda address, mtls: announce(settings, address, mtls))


async def run(settings: Settings, stopping: asyncio.Event, ready: Callable[[str, str], None]) -> None:
    """Serve until `stopping` is set, then drain; `ready` is told the addresses.  Raises StartError."""
    app = build_app(settings)
    app.db.open()
    try:
        address = await app.start()
        tasks = [
            background(app.housekeeping.run(), "housekeeping"),
            background(app.housekeeping.settle(), "settling"),
            background(keep_looking(app.files), "reloading"),
        ]
        gc.collect()
        gc.freeze()  # what the start has made stays: to go through it would hold all calls up for tens of milliseconds
        logger.info("serving", address=address, mtls_address=app.server.mtls_address, revision=app.db.revision)
        ready(address, app.server.mtls_address)
        await stopping.wait()
        await _drain(app, tasks)
    finally:
        with at_most(LAST_SECONDS):
            await app.db.close()
    logger.info("stopped")


def background(work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
    """Run what goes on until it is cancelled.  If it ends by an error of its own, the log tells at once."""

    def tell(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("background_task_failed", task=name, exc_info=error)

    task = asyncio.create_task(work, name=f"nofx-{name}")
    task.add_done_callback(tell)
    return task


async def _drain(app: App, tasks: "list[asyncio.Task[None]]") -> None:
    """Let the calls in flight end; then nobody writes any more but the last of the housekeeping."""
    logger.info("draining", grace_seconds=app.settings.shutdown_grace_seconds)
    for task in tasks:
        task.cancel()
    await app.server.stop(app.settings.shutdown_grace_seconds)
    with at_most(LAST_SECONDS):
        await app.housekeeping.end()


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """End the process, with the status 1, if the block takes longer.

    A thread that waits for a database which says nothing can be stopped by nobody; and the store survives this.
    """

    def give_up() -> None:
        logger.error("not_closed", reason=f"the database did not answer within {seconds:g} seconds")
        os._exit(1)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def stop_on_signals(at_once: Callable[[], None] = lambda: None) -> asyncio.Event:
    """The event that the first signal sets; the second one ends the process, after `at_once`."""
    stopping = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if stopping.is_set():
            # The store survives a kill at any moment, so it survives this.
            at_once()
            os._exit(128 + number)
        logger.info("signal", name=number.name)
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    return stopping
