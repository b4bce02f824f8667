"""How far a long piece of work is, for whoever waits for it at a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from nofx_grpc.redaction import escaped


@contextmanager
def bar() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar for each step on a terminal, elsewhere nothing; it is told the step, what is done, and of what."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
        tasks: dict[str, TaskID] = {}

        def tell(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = progress.add_task(escaped(step), total=total)
            progress.update(tasks[step], completed=done)

        yield tell
