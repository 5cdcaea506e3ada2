"""How tables, states and times look on a terminal. Never knows of what they tell."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.console import Console
from rich.table import Table

PIPED = 240  # columns where nobody looks
COLOURS = {
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "processing": "cyan",
    "retrying": "magenta",
    "lost": "red",
    "draining": "yellow",
    "stopped": "dim",
}
_UNITS = (("d", 86_400), ("h", 3600), ("m", 60))


def console() -> Console:
    """As wide as the terminal, or as wide as it takes where there is none."""
    return Console(width=None if sys.stdout.isatty() else PIPED, highlight=False)


def table(columns: Sequence[str], rows: Iterable[Iterable[str]], *, numbers: int = 0) -> Table:
    """Rows under columns, of which the last `numbers` are numbers."""
    made = Table(box=None, pad_edge=False)
    for place, column in enumerate(columns, 1):
        right = place > len(columns) - numbers
        made.add_column(column, overflow="fold", justify="right" if right else "left")
    for row in rows:
        made.add_row(*row)
    return made


def print_fields(pairs: Iterable[tuple[str, str]]) -> None:
    """A line for each that has a value, or several where the value has."""
    out = Console(highlight=False, soft_wrap=True)
    for name, value in pairs:
        if value:
            out.print(f"[bold]{name:<11}[/]", end="")
            out.print(value.replace("\n", "\n" + " " * 11), markup=False)


def coloured(state: str) -> str:
    """A state in its colour."""
    colour = COLOURS.get(state)
    return f"[{colour}]{state}[/]" if colour else state


def moment(time: datetime | None) -> str:
    """A time in the zone of whoever looks, empty for none."""
    return "" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    """`1.5h` for 5400."""
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f}{unit}"
    return f"{seconds:.1f}s"
