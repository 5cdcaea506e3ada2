"""Measured figures, and how they are shown. Measures nothing."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import msgspec
from rich.console import Console
from rich.table import Table

OURS, RAW, SQLITE, POSTGRES = "ours", "raw nats-py", "SQLite", "PostgreSQL"
Samples = dict[str, list[float]]
"""One figure of each system and turn; the systems take turns, since shared machines drift."""


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One row: medians over the turns. Ratios are ours over theirs, as medians over the turns.

    For milliseconds the ratios say how many times as long ours took. `reached` is None for a row
    without a target.
    """

    what: str
    durability: str
    unit: str
    ours: float
    raw: float | None = None
    sqlite: float | None = None
    postgres: float | None = None
    to_raw: float | None = None
    to_sqlite: float | None = None
    target: str = ""
    reached: bool | None = None


def figure(
    what: str,
    durability: str,
    unit: str,
    samples: Samples,
    *,
    share_of_raw: float | None = None,
    least: float | None = None,
    most: float | None = None,
    take: Callable[[Sequence[float]], float] = statistics.median,
) -> Figure:
    """The row for `samples`; `take` makes one number of a system's samples.

    The target: at least `share_of_raw` times what raw nats-py does, at least `least`, at most
    `most`.
    """
    ours = take(samples[OURS])
    to_raw = _ratio(samples, RAW, take)
    tests = [
        (share_of_raw, to_raw, f">= {share_of_raw}x raw", 1),
        (least, ours, f">= {least or 0:,g}", 1),
        (most, ours, f"<= {most or 0:g}", -1),
    ]
    asked = [(limit, found, text, sign) for limit, found, text, sign in tests if limit is not None]
    return Figure(
        what=what,
        durability=durability,
        unit=unit,
        ours=ours,
        raw=_taken(samples, RAW, take),
        sqlite=_taken(samples, SQLITE, take),
        postgres=_taken(samples, POSTGRES, take),
        to_raw=to_raw,
        to_sqlite=_ratio(samples, SQLITE, take),
        target=", ".join(text for _, _, text, _ in asked),
        reached=all((f or 0) * s >= limit * s for limit, f, _, s in asked) if asked else None,
    )


def _taken(samples: Samples, system: str, take: Callable[[Sequence[float]], float]) -> float | None:
    return take(samples[system]) if samples.get(system) else None


def _ratio(samples: Samples, system: str, take: Callable[[Sequence[float]], float]) -> float | None:
    theirs = samples.get(system)
    if not theirs:
        return None
    if take is not statistics.median:
        return take(samples[OURS]) / take(theirs)
    return take([a / b for a, b in zip(samples[OURS], theirs, strict=True)])


def percentile_99(samples: Sequence[float]) -> float:
    """The 99th percentile of at least two samples."""
    return statistics.quantiles(samples, n=100, method="inclusive")[98]


def show(figures: Sequence[Figure], notes: Sequence[str]) -> None:
    """Print the figures as a table, and what has to be known about them."""
    table = Table(
        *("", "durability", "ours", RAW, "ratio", SQLITE, "ratio", POSTGRES, "target", ""),
        box=None,
    )
    for f in figures:
        numbers = [_number(n) for n in (f.ours, f.raw, f.to_raw, f.sqlite, f.to_sqlite, f.postgres)]
        said = {True: "reached", False: "[bold red]MISSED[/]", None: ""}[f.reached]
        table.add_row(f"{f.what} ({f.unit})", f.durability, *numbers, f.target, said)
    console = Console(width=150)
    console.print(table)
    for note in notes:
        console.print(f"- {note}", highlight=False)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
