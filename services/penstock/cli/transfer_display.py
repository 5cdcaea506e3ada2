"""Shows how far a backup or restore is: a bar on a terminal, otherwise a line for each stream."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from penstock.infra.backup import Tell


@contextmanager
def display() -> Iterator[Tell]:
    """What to tell of the progress, which goes to standard error."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (TextColumn("{task.description:<60}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=1.0)

        def tell(what: str, stream: str, share: float) -> None:
            progress.update(task, description=f"{what} {stream}", completed=share)

        yield tell


class _Lines:
    """Prints a line when something is done, once."""

    def __init__(self) -> None:
        self._last = ("", "")

    def __call__(self, what: str, stream: str, share: float) -> None:
        if share >= 1.0 and (what, stream) != self._last:
            self._last = (what, stream)
            print(f"{what} {stream}", file=sys.stderr, flush=True)
