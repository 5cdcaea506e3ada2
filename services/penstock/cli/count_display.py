"""Shows how many of many are done: a bar on a terminal, otherwise a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

EVERY = 2.0  # seconds between two lines
Told = Callable[[int], None]


@contextmanager
def display(done: str, total: int) -> Iterator[Told]:
    """What to tell how many are `done`, of about `total`; it goes to standard error."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _Lines(done, total)
        return
    columns = (TextColumn(done), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, *times, console=console, transient=True) as progress:
        task = progress.add_task("", total=total)

        def tell(number: int) -> None:
            progress.update(task, completed=number)

        yield tell


class _Lines:
    """Prints a line, if the last one is a while ago."""

    def __init__(self, done: str, total: int) -> None:
        self._done = done
        self._total = total
        self._last = time.monotonic()

    def __call__(self, number: int) -> None:
        if time.monotonic() - self._last >= EVERY:
            self._last = time.monotonic()
            print(f"{number} of {self._total} {self._done}", file=sys.stderr, flush=True)
