"""Hearing of the commits of all processes, over a connection of its own that PostgreSQL tells of each.

A hint, never the truth: what is heard may come late, twice, or (through a pooler in transaction mode) not at all.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any, NoReturn

import psycopg
import structlog
from psycopg import AsyncConnection

logger = structlog.get_logger(__name__)

CHANNEL = "nofx_grpc_changes"
KEEPALIVE_SECONDS = 20.0
ANSWER_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 30.0


class Listener:
    """Listens on one connection, and on a new one when that is lost."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters

    async def run(self, hear: Callable[[int], None]) -> NoReturn:
        """Call `hear` with the revision of each commit, and with 0 where some may have been missed; until cancelled."""
        failures = 0
        while True:
            try:
                async with await AsyncConnection[Any].connect(**self._parameters, autocommit=True) as connection:
                    await _ask(connection, f"LISTEN {CHANNEL}")
                    if failures:
                        logger.info("listening_again")
                    failures = 0
                    hear(0)
                    await _hear_all(connection, hear)
            except (psycopg.Error, TimeoutError) as error:
                if not failures:  # said once, not at every try
                    logger.warning("not_listening", error=f"{type(error).__name__}: {error}", until_then="the poll")
                failures += 1
            await asyncio.sleep(pause_after(failures) * random.uniform(0.5, 1.0))  # noqa: S311  # no secret hangs on it


def pause_after(failures: int) -> float:
    """How long to wait after so many failures in a row, however many: some database has no LISTEN at all."""
    return min(0.1 * 2.0 ** min(failures, 10), LONGEST_PAUSE_SECONDS)


def notify(revision: int) -> str:
    """The statement that tells all who listen of a commit, when it is committed."""
    return f"NOTIFY {CHANNEL}, '{revision:d}'"


async def _hear_all(connection: AsyncConnection[Any], hear: Callable[[int], None]) -> NoReturn:
    """Raises psycopg.Error or TimeoutError when the connection is lost, which only asking tells."""
    while True:
        async with aclosing(connection.notifies(timeout=KEEPALIVE_SECONDS)) as heard:
            async for notification in heard:
                text = notification.payload
                hear(int(text) if text.isdecimal() else 0)
        await _ask(connection, "SELECT 1")


async def _ask(connection: AsyncConnection[Any], sql: str) -> None:
    async with asyncio.timeout(ANSWER_SECONDS):
        await connection.execute(sql)
