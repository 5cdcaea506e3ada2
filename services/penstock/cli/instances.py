"""Asks every instance of a service something, and shows how far each one is meanwhile."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from penstock.cli.connecting import connected
from penstock.contracts.control import Report
from penstock.contracts.errors import from_problem
from penstock.infra.control import ask_all
from penstock.infra.settings import Settings

EVERY = 1.0  # seconds between two lines about one instance, where there is no terminal

Show = Callable[[Report], None]


async def ask(
    settings: Settings, service: str, verb: str, parameters: msgspec.Struct
) -> AsyncIterator[Report]:
    """The last report of each instance, as it comes, also of one that failed.

    Shows progress on standard error. Raises Unavailable if no instance runs.
    """
    with progress(f"{verb} {service}") as show:
        async with connected(settings) as bus:
            async for report in ask_all(bus, service, verb, parameters):
                show(report)
                if report.ended:
                    yield report


def raise_failed(reports: list[Report]) -> None:
    """Raise what the first instance that failed said, with its name."""
    for report in reports:
        if report.problem:
            error = from_problem(report.problem)
            raise type(error)(f"{report.instance}: {error.detail}", **error.fields)


@contextmanager
def progress(what: str) -> Iterator[Show]:
    """What shows each report: as a bar for each instance on a terminal, else in lines."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(what)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("events"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        yield _bars(bars, what)


def _bars(bars: Progress, what: str) -> Show:
    tasks: dict[str, TaskID] = {}

    def show(report: Report) -> None:
        if report.instance not in tasks:
            tasks[report.instance] = bars.add_task(f"{what} [dim]{report.instance}[/]", total=None)
        bars.update(tasks[report.instance], completed=report.done, total=report.total or None)

    return show


def _lines(what: str) -> Show:
    said: dict[str, float] = {}

    def show(report: Report) -> None:
        now = time.monotonic()
        if report.ended or now - said.get(report.instance, 0) >= EVERY:
            said[report.instance] = now
            print(
                f"{what} {report.instance}: {report.done:,} of {report.total:,} events",
                file=sys.stderr,
                flush=True,
            )

    return show


def spent(events: int, seconds: float) -> str:
    """How many events in what time, as a phrase."""
    rate = f" ({events / seconds:,.0f} a second)" if seconds else ""
    return f"{events:,} event{'s' * (events != 1)} in {seconds:,.1f} s{rate}"
