"""How queues, their workers and their counts look on a terminal. Never asks for anything."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape

from penstock.cli.tables import coloured, console, duration, moment, table
from penstock.contracts.job_reads import Count, HandlerSeen, Latency, Metrics, Stats, WorkerSeen

STATES = ("pending", "retrying", "processing", "completed", "failed", "cancelled")


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
