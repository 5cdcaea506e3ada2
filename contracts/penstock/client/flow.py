"""A flow as a tree: each command and event under what caused it, from events alone. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Literal

import msgspec

from penstock.contracts.answers import HistoryEntry

MOST = 60  # steps above which those of one kind that follow each other are told in one line
What = Literal["message", "command", "change", "event", "hop"]
_STARTED = "jobs.started"


class Step(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A command sent, an event stored, or a hop of work to whoever does it, and what came of it.

    A `message` is known only as the cause of others. `offset` is in seconds since the flow's first
    step; `version` is an event's position in its aggregate `subject`. With `more`, the step stands
    for so many further ones of its kind, the last of which was at `until`.
    """

    what: What
    name: str
    id: str
    time: datetime
    offset: float = 0.0
    service: str = ""
    subject: str = ""
    version: int = 0
    actor: str | None = None
    more: int = 0
    until: float = 0.0
    caused: list[Step] = []

    def __str__(self) -> str:
        where = f"{self.subject} #{self.version}" if self.version else self.subject
        by = f"  by {self.actor}" if self.actor and self.what != "event" else ""
        more = f"  and {self.more} more, to {_milliseconds(self.until)}" if self.more else ""
        return f"{self.what:<7}  {self.name}  {where}{by}{more}".rstrip()


def flow_tree(entries: Sequence[HistoryEntry]) -> list[Step]:
    """What began the flow, each with all that came of it, in the order in which it happened."""
    roots = _Tree(entries).roots
    steps = list(_all(roots))
    began = min((step.time for step in steps), default=datetime.min)
    for step in steps:
        step.offset = (step.time - began).total_seconds()
        step.caused.sort(key=_order)
    return sorted(roots, key=_order)


def shortened(steps: Sequence[Step], most: int = MOST) -> list[Step]:
    """The same where it has at most so many steps; else neighbours of one kind are told as one."""
    return list(steps) if sum(1 for _ in _all(steps)) <= most else _merged(steps)


def flow_lines(entries: Sequence[HistoryEntry], *, every: bool = False) -> list[str]:
    """A line for each step, indented under its cause: when, what, its name, where and who.

    In a long flow neighbours of one kind share a line, unless `every` step is asked for.
    """
    steps = flow_tree(entries)
    return [
        f"{_milliseconds(step.offset):>13}  {'  ' * depth}{step}"
        for depth, step in _walk(steps if every else shortened(steps))
    ]


def step_time(step: Step) -> str:
    """When a step was, such as `+12.5 ms` after the first."""
    return _milliseconds(step.offset)


class _Tree:
    """Joins each event to its cause, by the ids that events have of it."""

    def __init__(self, entries: Sequence[HistoryEntry]) -> None:
        self.roots: list[Step] = []
        self._commands: dict[tuple[str, str], Step] = {}
        self._messages: dict[str, Step] = {}
        events = [(entry, _event(entry)) for entry in entries]
        self._events = {entry.id: step for entry, step in reversed(events)}
        self._types = {entry.id: entry.type for entry in reversed(entries)}
        for entry, step in sorted(events, key=lambda pair: pair[0].time):
            self._above(entry, step).append(step)

    def _above(self, entry: HistoryEntry, step: Step) -> list[Step]:
        """Where an event belongs: below its command, the event before it, or at the root."""
        cause = entry.causationid
        if cause is None:
            return self.roots
        above = self._events.get(cause)
        # An event may have the id that a command has as well: types tell which was meant.
        if above is not step and above and entry.causationtype in (None, self._types[cause]):
            return self._below_event(entry, above)
        if entry.causationtype is None or entry.causationtime is None:
            return self._message(cause, entry).caused
        return self._command(cause, entry).caused

    def _below_event(self, entry: HistoryEntry, above: Step) -> list[Step]:
        if _name(entry.type) != _STARTED or not isinstance(entry.data, dict):
            return above.caused
        hop = Step(
            what="hop",
            name="work queue",
            id=f"{entry.id}:hop",
            time=entry.time,
            subject=f"to {entry.data.get('worker')}",
            caused=[],
        )
        above.caused.append(hop)
        return hop.caused

    def _command(self, id: str, entry: HistoryEntry) -> Step:
        assert entry.causationtype is not None and entry.causationtime is not None
        key = (id, entry.subject)
        if key not in self._commands:
            name = _name(entry.causationtype)
            command = self._commands[key] = Step(
                what="change" if name.startswith("changes.") else "command",
                name=name,
                id=id,
                time=entry.causationtime,
                service=entry.service,
                subject=entry.subject,
                actor=entry.actor,
                caused=[],
            )
            self._above_command(entry).append(command)
        return self._commands[key]

    def _above_command(self, entry: HistoryEntry) -> list[Step]:
        cause = entry.causationcause
        if cause is None:
            return self.roots
        if cause in self._events:
            return self._events[cause].caused
        return self._message(cause, entry).caused

    def _message(self, id: str, entry: HistoryEntry) -> Step:
        """What is in no log that was asked: a change of the application's, or an older event."""
        if id not in self._messages:
            time = entry.causationtime or entry.time
            self._messages[id] = Step(what="message", name=id, id=id, time=time, caused=[])
            self.roots.append(self._messages[id])
        return self._messages[id]


def _event(entry: HistoryEntry) -> Step:
    return Step(
        what="event",
        name=_name(entry.type),
        id=entry.id,
        time=entry.time,
        service=entry.service,
        subject=entry.subject,
        version=entry.version,
        actor=entry.actor,
        caused=[],
    )


def _name(type: str) -> str:
    """`jobs.queued` from `penstock.jobs.queued.v1`."""
    return ".".join(type.split(".")[1:-1])


def _order(step: Step) -> tuple[datetime, int]:
    return step.time, step.version


def _all(steps: Sequence[Step]) -> Iterator[Step]:
    return (step for _, step in _walk(steps))


def _walk(steps: Sequence[Step], depth: int = 0) -> Iterator[tuple[int, Step]]:
    waiting = [(depth, step) for step in reversed(steps)]
    while waiting:
        depth, step = waiting.pop()
        yield depth, step
        waiting += [(depth + 1, below) for below in reversed(step.caused)]


def _merged(steps: Sequence[Step]) -> list[Step]:
    """Neighbours that look alike, with all that came of them, as the first of them."""
    merged = []
    for _, group in groupby(steps, key=_likeness):
        first, *others = group
        last = others[-1].offset if others else 0.0
        below = _merged(first.caused)
        merged.append(msgspec.structs.replace(first, caused=below, more=len(others), until=last))
    return merged


def _likeness(step: Step) -> tuple[str, str, tuple[str, ...]]:
    return step.what, step.name, tuple(below.name for below in step.caused)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:+.1f} ms"
