"""How schedules look on a terminal: times in each schedule's own zone. Never asks for anything."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import msgspec
from rich.console import Console
from rich.markup import escape

from penstock.cli.tables import console, print_fields, table
from penstock.contracts.schedules import ScheduleState, Timing

_UNITS = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))


def print_list(found: Sequence[ScheduleState]) -> None:
    """A row for each, or a sentence if there is none."""
    made = table(("name", "job", "when", "next", "last", "ran", "skipped"), (), numbers=2)
    for schedule in found:
        made.add_row(*map(escape, _row(schedule)), style="dim" if schedule.paused else None)
    console().print(made if found else "There is no such schedule.")


def print_one(schedule: ScheduleState, runs: Sequence[datetime]) -> None:
    """Everything about one, a line each."""
    print_fields(_fields(schedule, runs))


def print_runs(schedule: ScheduleState, runs: Sequence[datetime]) -> None:
    """The times of its next runs, with how long that is from now."""
    out = Console(highlight=False, soft_wrap=True)
    if schedule.paused:
        out.print(f"{schedule.name} is paused; resumed now, it would run:", markup=False)
    if not runs:
        out.print(f"{schedule.name} has no run to come.", markup=False)
    for run in runs:
        out.print(f"{moment(run, schedule.timing)}  [dim]{ahead(run)}[/]")


def moment(time: datetime | None, timing: Timing) -> str:
    """A time in the schedule's zone, such as `2026-01-31 02:00:00 CET`."""
    if time is None:
        return "-"
    return time.astimezone(ZoneInfo(timing.timezone)).strftime("%Y-%m-%d %H:%M:%S %Z")


def interval(seconds: int) -> str:
    """`1h30m` for 5400."""
    told = ""
    for unit, size in _UNITS:
        count, seconds = divmod(seconds, size)
        told += f"{count}{unit}" if count else ""
    return told or "0s"


def ahead(time: datetime) -> str:
    """How long it is from now, in its two largest units."""
    seconds = round((time - datetime.now(UTC)).total_seconds())
    if seconds <= 0:
        return "now"
    largest = next(place for place, (_, size) in enumerate(_UNITS) if seconds >= size)
    smallest = _UNITS[min(largest + 1, len(_UNITS) - 1)][1]
    return f"in {interval(seconds - seconds % smallest)}"


def _when(timing: Timing) -> str:
    if timing.every is not None:
        return f"every {interval(timing.every)}"
    return f"{timing.cron} ({timing.timezone})"


def _next(schedule: ScheduleState) -> str:
    if schedule.paused:
        return "paused"
    return moment(schedule.next, schedule.timing) if schedule.next else "over"


def _row(schedule: ScheduleState) -> tuple[str, ...]:
    return (
        schedule.name,
        schedule.job.name,
        _when(schedule.timing),
        _next(schedule),
        moment(schedule.last, schedule.timing),
        str(schedule.ran),
        str(schedule.skipped),
    )


def _fields(schedule: ScheduleState, runs: Sequence[datetime]) -> list[tuple[str, str]]:
    timing, job = schedule.timing, schedule.job
    bounds = [("from", timing.start), ("to", timing.end)]
    reason = f": {schedule.reason}" if schedule.reason else ""
    missed = f"all, at most {schedule.most}" if schedule.missed == "all" else schedule.missed
    return [
        ("name", schedule.name),
        ("job", f"{job.name} {msgspec.json.encode(job.payload).decode()}"),
        ("queue", f"{job.queue}, priority {job.priority}"),
        ("when", _when(timing)),
        *((name, moment(bound, timing)) for name, bound in bounds if bound),
        ("jitter", f"up to {timing.jitter:g} s" if timing.jitter else ""),
        ("missed", missed),
        ("overlap", schedule.overlap),
        ("paused", f"yes{reason}" if schedule.paused else ""),
        ("next", "\n".join(f"{moment(run, timing)}  {ahead(run)}" for run in runs) or "none"),
        ("last", moment(schedule.last, timing)),
        ("last job", schedule.last_job or "-"),
        ("ran", f"{schedule.ran}, {schedule.skipped} skipped, {schedule.triggered} by hand"),
        ("tags", ", ".join(job.tags)),
    ]
