"""How jobs look on a terminal. Never asks for anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from rich.markup import escape

from penstock.cli.tables import coloured, console, moment, print_fields, table
from penstock.contracts.job_reads import DeadCount, Estimate
from penstock.contracts.job_state import JobState


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
    print_fields(_fields(job))


def _fields(job: JobState) -> list[tuple[str, str]]:
    origin = msgspec.structs.asdict(job.origin) if job.origin else {}
    rules = msgspec.to_builtins(job.rules)
    discarded = ", discarded" if job.discarded else ""
    cause = f" ({job.cause}{discarded})" if job.cause else ""
    result = "" if job.result is None else _json(job.result)
    return [
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


def _error(error: Any) -> str:
    return f"{error.type}: {error.message}\n{error.traceback}".rstrip()


def print_dead_counts(found: Sequence[DeadCount]) -> None:
    """A row for each class of error."""
    rows = [(escape(one.error or "-"), str(one.count), moment(one.oldest), moment(one.newest))
            for one in found]  # fmt: skip
    columns = ("error", "jobs", "oldest", "newest")
    console().print(table(columns, rows) if found else "There is no such dead job.")


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


def took(job: JobState) -> str:
    """How long the last attempt took, empty if it is not over."""
    if job.started is None or job.ended is None:
        return ""
    return f"{(job.ended - job.started).total_seconds():.3f} s"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
