"""Measured figures of jobs, and how they are shown. Measures nothing."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.table import Table


class Figure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line. `events` are the state events stored for each job, `payload` is in bytes.

    `most` tells that less is better than the target, not more.
    """

    what: str
    value: float
    unit: str = "jobs/s"
    system: str = "ours"
    durability: str = ""
    events: int = 0
    payload: int = 0
    target: float | None = None
    most: bool = False
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the target is; None without one."""
        if self.target is None:
            return None
        return self.value <= self.target if self.most else self.value >= self.target


def show(figures: Sequence[Figure], notes: Sequence[str]) -> None:
    """Print the figures as a table, and what has to be known about them."""
    table = Table(
        *("", "system", "durability", "events/job", "payload"), box=None, title_justify="left"
    )
    for right in ("measured", "target"):
        table.add_column(right, justify="right")
    table.add_column("")
    table.add_column("")
    for f in figures:
        said = {True: "reached", False: "[bold red]MISSED[/]", None: ""}[f.reached]
        table.add_row(
            f.what,
            f.system,
            f.durability,
            str(f.events),
            f"{f.payload} B" if f.payload else "",
            f"{_number(f.value)} {f.unit}",
            "" if f.target is None else f"{'<=' if f.most else '>='} {_number(f.target)}",
            said,
            f.note,
        )
    console = Console(width=170)
    console.print(table)
    for note in notes:
        console.print(f"- {note}", highlight=False)


def _number(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
