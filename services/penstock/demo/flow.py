"""One flow as lines of text: each command and event, in order, with times. Reads only events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby

import msgspec

from penstock.client import HistoryEntry

MOST = 60  # lines above which steps of one kind that follow each other are told in one line


class Step(msgspec.Struct, frozen=True, order=True):
    """A command sent, an event stored, or a hop to whoever does the work."""

    time: datetime
    sort: int
    what: str
    name: str
    where: str
    by: str = ""


def flow_lines(entries: Sequence[HistoryEntry]) -> list[str]:
    """A line for each step: milliseconds since the first, what, its name, where, who."""
    steps = sorted({*_commands(entries), *map(_event, entries), *_hops(entries)})
    if not steps:
        return []
    began = steps[0].time
    if len(steps) <= MOST:
        return [_line(began, step) for step in steps]
    groups = groupby(steps, key=lambda step: (step.what, step.name))
    return [_told(began, list(group)) for _, group in groups]


def _commands(entries: Sequence[HistoryEntry]) -> Iterator[Step]:
    """The commands and changes that events tell as their causes."""
    events = {entry.id for entry in entries}
    for entry in entries:
        if entry.causationid in events or not entry.causationtype or not entry.causationtime:
            continue
        name = _name(entry.causationtype)
        what = "change" if name.startswith("changes.") else "command"
        yield Step(entry.causationtime, 0, what, name, entry.subject, entry.actor or "")


def _event(entry: HistoryEntry) -> Step:
    where = f"{entry.subject} #{entry.version}"
    return Step(entry.time, 2, "event", _name(entry.type), where)


def _hops(entries: Sequence[HistoryEntry]) -> Iterator[Step]:
    """Where work changed hands: from the queue to the worker that started it."""
    for entry in entries:
        if worker := entry.data.get("worker"):
            yield Step(entry.time, 1, "hop", "work queue", f"to {worker}")


def _name(type: str) -> str:
    """`jobs.queued` from `penstock.jobs.queued.v1`."""
    return ".".join(type.split(".")[1:-1])


def _line(began: datetime, step: Step) -> str:
    after = (step.time - began).total_seconds() * 1000
    by = f"  by {step.by}" if step.by else ""
    return f"{after:+10.1f} ms  {step.what:<7}  {step.name:<28} {step.where}{by}"


def _told(began: datetime, steps: list[Step]) -> str:
    line = _line(began, steps[0])
    if len(steps) == 1:
        return line
    until = (steps[-1].time - began).total_seconds() * 1000
    return f"{line}  and {len(steps) - 1} more, to {until:+.1f} ms"
