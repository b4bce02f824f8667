"""Trying again, a few times and not all at once, what failed for a reason that may have gone by then."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

_FIRST_PAUSE_SECONDS = 0.1
_RETRIES = 5
_MOST_SECONDS = 4.0


def pauses() -> Iterator[float]:
    """How long to wait before each further try: up to three seconds together, enough for a database to restart.

    Jittered, so that those who failed together do not come back together.  Where the tries themselves take long, from
    the first one on, there are fewer: callers give up, too.
    """
    return _pauses(time.monotonic() + _MOST_SECONDS)  # of now, and not of when the first try has failed


def _pauses(until: float) -> Iterator[float]:
    for retry in range(_RETRIES):
        if time.monotonic() > until:
            return
        yield _FIRST_PAUSE_SECONDS * 2**retry * random.uniform(0.5, 1.0)  # noqa: S311  # no secret hangs on it


def retrying(fn: Callable[[], T], may_retry: Callable[[Exception], bool]) -> T:
    """What `fn` returns at the first try that does not fail.  Raises the last error."""
    left = pauses()
    while True:
        try:
            return fn()
        except Exception as error:
            pause = next(left, None)
            if pause is None or not may_retry(error):
                raise
        time.sleep(pause)


async def retrying_async(fn: Callable[[], Awaitable[T]], may_retry: Callable[[Exception], bool]) -> T:
    """As `retrying`, on the event loop."""
    left = pauses()
    while True:
        try:
            return await fn()
        except Exception as error:
            pause = next(left, None)
            if pause is None or not may_retry(error):
                raise
        await asyncio.sleep(pause)
