"""How queues, their workers and their counts look on a terminal. Never asks for anything."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.markup import escape

from penstock.cli.tables import coloured, console, duration, moment, table
from penstock.contracts.job_reads import Count, HandlerSeen, Latency, Metrics, Stats, WorkerSeen

STATES = ("pending", "retrying", "processing", "completed", "failed", "cancelled")
QUEUE = (
    *("queue", "waiting", "delayed", "retrying", "processing", "oldest"),
    *("enqueued/s", "completed/s", "failed/s", "wait p50/90/99", "run p50/90/99"),
    *("state", "weights"),
)


class QueueRow(Metrics, frozen=True, kw_only=True):
    """How a queue does and how it stands, or how the jobs of one `name` in it do."""

    paused: bool = False
    draining: bool = False
    reason: str | None = None
    weights: dict[str, int] = msgspec.field(default_factory=dict)


def print_queues(found: Sequence[QueueRow]) -> None:
    """A row for each queue, and one for each of its names."""
    made = table(QUEUE, map(_queue, found))
    for column in made.columns[1:-2]:
        column.justify = "right"
    console().print(made if found else "No queue has jobs, or had any lately.")
    if found:
        console().print("[dim]Rates are over 1/5/15 minutes; durations are in seconds.[/]")


def _queue(row: QueueRow) -> tuple[str, ...]:
    is_whole = row.name is None
    return (
        f"[bold]{escape(row.queue)}[/]" if row.name is None else f"  {escape(row.name)}",
        f"{row.waiting:,}",
        f"{row.delayed:,}" if is_whole else "",
        f"{row.retrying:,}",
        f"{row.processing:,}",
        "" if row.oldest is None else duration(row.oldest),
        *("/".join(f"{getattr(rate, what):g}" for rate in row.rates)
          for what in ("enqueued", "completed", "failed")),
        _latency(row.wait),
        _latency(row.run),
        escape(_state(row)) if is_whole else "",
        escape(", ".join(f"{tenant} {n}" for tenant, n in sorted(row.weights.items()))),
    )  # fmt: skip


def _state(row: QueueRow) -> str:
    words = [word for word, is_so in (("paused", row.paused), ("draining", row.draining)) if is_so]
    why = f": {row.reason}" if row.reason else ""
    return " and ".join(words) + why if words else "open"


def _latency(found: Latency | None) -> str:
    return "-" if found is None else f"{found.p50:.3g}/{found.p90:.3g}/{found.p99:.3g}"


def print_stats(found: Stats) -> None:
    """A row for each queue and name, and their sum."""
    if found.sequence is not None:
        console().print(f"After the event {found.sequence}, {moment(found.at)}:")
    elif found.at:
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
