"""How jobs, queues and workers look on a terminal. Never asks for anything."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from penstock.contracts.job_reads import (
    Count,
    DeadCount,
    Estimate,
    HandlerSeen,
    Latency,
    Metrics,
    Stats,
    WorkerSeen,
)
from penstock.contracts.job_state import JobState

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
STATES = ("pending", "retrying", "processing", "completed", "failed", "cancelled")
_UNITS = (("d", 86_400), ("h", 3600), ("m", 60))


def console() -> Console:
    """As wide as the terminal, or as wide as it takes where there is none."""
    return Console(width=None if sys.stdout.isatty() else PIPED, highlight=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: int = 0) -> Table:
    """Rows under columns, of which the last `numbers` are numbers."""
    made = Table(box=None, pad_edge=False)
    for place, column in enumerate(columns, 1):
        right = place > len(columns) - numbers
        made.add_column(column, overflow="fold", justify="right" if right else "left")
    for row in rows:
        made.add_row(*row)
    return made


def print_jobs(jobs: Sequence[JobState]) -> None:
    """A row for each, or a sentence if there is none."""
    rows = [
        (
            escape(job.id),
            coloured(job.state),
            escape(job.name),
            escape(job.queue),
            str(job.priority),
            f"{job.attempt}/{job.max_attempts}",
            moment(job.created),
            escape(_said(job)),
        )
        for job in jobs
    ]
    columns = ("job", "state", "name", "queue", "priority", "attempt", "enqueued", "")
    console().print(table(columns, rows) if jobs else "There is no such job.")


def _said(job: JobState) -> str:
    if job.state == "cancelled":
        return job.reason or ""
    return f"{job.error.type}: {job.error.message}".splitlines()[0] if job.error else ""


def print_job(job: JobState) -> None:
    """Everything about one, a line each."""
    out = Console(highlight=False, soft_wrap=True)
    for name, value in _fields(job):
        out.print(f"[bold]{name:<11}[/]", end="")
        out.print(value.replace("\n", "\n" + " " * 11), markup=False)


def _fields(job: JobState) -> list[tuple[str, str]]:
    origin = msgspec.structs.asdict(job.origin) if job.origin else {}
    rules = msgspec.to_builtins(job.rules)
    discarded = ", discarded" if job.discarded else ""
    cause = f" ({job.cause}{discarded})" if job.cause else ""
    result = "" if job.result is None else _json(job.result)
    pairs = [
        ("job", job.id),
        ("state", f"{job.state}{cause}"),
        ("name", f"{job.name} {_json(job.payload)}"),
        ("queue", f"{job.queue}, priority {job.priority}"),
        ("attempt", f"{job.attempt} of {job.max_attempts}"),
        ("crashes", str(job.crashes or "")),
        ("enqueued", moment(job.created)),
        ("run at", moment(job.run_at)),
        ("started", moment(job.started)),
        ("ended", moment(job.ended)),
        ("took", took(job)),
        ("worker", job.worker or ""),
        ("result", result or (f"stored as {job.stored}" if job.stored else "")),
        ("reason", job.reason or ""),
        ("rules", _json(rules) if rules else ""),
        ("tags", ", ".join(job.tags)),
        *((what.replace("_", " "), of) for what, of in origin.items() if of),
        ("flow", job.correlationid),
        *((f"error {n}", _error(error)) for n, error in enumerate(job.errors, 1)),
    ]
    return [(name, value) for name, value in pairs if value]


def _error(error: Any) -> str:
    return f"{error.type}: {error.message}\n{error.traceback}".rstrip()


def print_queues(found: Sequence[Metrics]) -> None:
    """A row for each queue, and one for each of its names."""
    rows = [
        (
            f"[bold]{escape(one.queue)}[/]" if one.name is None else f"  {escape(one.name)}",
            str(one.waiting),
            str(one.delayed) if one.name is None else "",
            str(one.retrying),
            str(one.processing),
            "" if one.oldest is None else duration(one.oldest),
            *("/".join(f"{getattr(rate, what):g}" for rate in one.rates)
              for what in ("enqueued", "completed", "failed")),
            _latency(one.wait),
            _latency(one.run),
        )
        for one in found
    ]  # fmt: skip
    columns = ("queue", "waiting", "delayed", "retrying", "processing", "oldest", "enqueued/s",
               "completed/s", "failed/s", "wait p50/90/99", "run p50/90/99")  # fmt: skip
    made = table(columns, rows, numbers=len(columns) - 1)
    console().print(made if found else "No queue has had a job lately.")
    if found:
        console().print("[dim]Rates are over 1/5/15 minutes; durations are in seconds.[/]")


def _latency(found: Latency | None) -> str:
    return "-" if found is None else f"{found.p50:.3g}/{found.p90:.3g}/{found.p99:.3g}"


def print_dead_counts(found: Sequence[DeadCount]) -> None:
    """A row for each class of error."""
    rows = [(escape(one.error or "-"), str(one.count), moment(one.oldest), moment(one.newest))
            for one in found]  # fmt: skip
    columns = ("error", "jobs", "oldest", "newest")
    console().print(table(columns, rows) if found else "There is no such dead job.")


def print_stats(found: Stats) -> None:
    """A row for each queue and name, and their sum."""
    if found.at:
        exact = {1: "second", 60: "minute", 3600: "hour"}.get(found.exact_to, "day")
        console().print(f"At the end of the {exact} {moment(found.at)}:")
    rows = [_counts(escape(one.queue), escape(one.name), one) for one in found.counts]
    rows.append(_counts("[bold]all[/]", "", found.total))
    console().print(table(("queue", "name", *STATES), rows, numbers=len(STATES)))


def _counts(queue: str, name: str, one: Count) -> tuple[str, ...]:
    return queue, name, *(str(getattr(one, state)) for state in STATES)


def print_workers(found: Sequence[WorkerSeen]) -> None:
    """A row for each, and what it runs."""
    rows = [
        (
            escape(one.name),
            coloured(one.status),
            f"{one.silent:.0f} s ago",
            f"{one.jobs}/{one.concurrency}",
            escape(", ".join(one.queues)),
            escape(", ".join(one.handlers)),
            escape(f"{one.version or '-'} ({one.penstock})"),
            moment(one.started),
            escape(one.problem or ""),
        )
        for one in found
    ]
    columns = ("worker", "status", "heard", "jobs", "queues", "handlers", "version", "since", "")
    console().print(table(columns, rows) if found else "No worker gives a sign of life.")
    for one in found:
        for job in one.running:
            since = f" since {moment(job.since)}" if job.since else ""
            line = f"{one.name} runs {job.name} {job.id}, attempt {job.attempt}{since}"
            console().print(line, markup=False)


def print_handlers(found: Sequence[HandlerSeen]) -> None:
    """A row for each name; one that nobody can do stands out."""
    rows = [
        (
            escape(one.name),
            escape(", ".join(one.workers)) or "[red]no worker[/]",
            ", ".join(one.lanes),
            str(one.waiting),
        )
        for one in found
    ]
    columns = ("name", "workers", "lane", "waiting")
    console().print(table(columns, rows, numbers=1) if found else "No job name is known.")


def print_estimate(found: Estimate) -> None:
    """What is expected of one job, in a few lines."""
    out = console()
    out.print(f"{found.id} is {found.state}.", markup=False)
    if found.ahead:
        out.print(f"{found.ahead} jobs of its queue go first.")
    if found.starts:
        out.print(f"starts  {moment(found.starts)}")
    if found.ends and found.ends_by:
        out.print(f"ends    {moment(found.ends)}, with 9 of 10 by {moment(found.ends_by)}")
        out.print(f"[dim]From {found.history} attempts of the same name.[/]")
    if found.unknown:
        out.print(found.unknown, markup=False)


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


def took(job: JobState) -> str:
    """How long the last attempt took, empty if it is not over."""
    if job.started is None or job.ended is None:
        return ""
    return f"{(job.ended - job.started).total_seconds():.3f} s"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
