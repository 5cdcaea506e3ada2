"""How jobs and notifications are compared with what a test wants of them, and shown to it.

Never changes anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from penstock.client.testing.log import MemoryLog
from penstock.contracts.envelope import unwrap
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import JobQueued
from penstock.contracts.notifications import BroadcastSent, NotificationSent

SHOWN = 20


FIELDS = ("delay", "at", *JobState.__struct_fields__)


class Queued(msgspec.Struct, frozen=True):
    """A job, and the moment from which it was to run when it was enqueued."""

    job: JobState
    at: datetime | None

    @property
    def delay(self) -> float:
        """For how many seconds it was to wait."""
        return (self.at - self.job.created).total_seconds() if self.at else 0.0

    def fits(self, wanted: Mapping[str, Any]) -> bool:
        """Whether its fields are so; of `payload` a part is enough."""
        return all(self._is(field, value) for field, value in wanted.items())

    def _is(self, field: str, value: Any) -> bool:
        match field:
            case "payload":
                return has(self.job.payload, value)
            case "delay":
                return abs(self.delay - _seconds(value)) < 1e-6
            case "at":
                return bool(self.at == value)
            case _:
                return bool(getattr(self.job, field) == value)

    def row(self) -> tuple[str, ...]:
        """As it is shown."""
        job, payload = self.job, msgspec.json.encode(self.job.payload).decode()
        return job.name, payload, f"queue={job.queue}", f"delay={self.delay:g}", job.state


def queued(log: MemoryLog, but: Iterable[str]) -> list[Queued]:
    """All jobs in their order, `but` those."""
    without = set(but)
    return [
        Queued(job, _run_at(log, id))
        for id, job in log.states.items()
        if isinstance(job, JobState) and id not in without
    ]


def _run_at(log: MemoryLog, id: str) -> datetime | None:
    data = unwrap(log.events[id][0].event)
    return data.run_at if isinstance(data, JobQueued) else None


def fitting(jobs: Iterable[Queued], name: str | None, wanted: Mapping[str, Any]) -> list[Queued]:
    """Those called `name`, or all, whose fields are so. Raises TypeError for what is no field."""
    if unknown := sorted(wanted.keys() - set(FIELDS)):
        raise TypeError(f"A job has no {unknown[0]!r}; it has {', '.join(FIELDS)}.")
    return [one for one in jobs if name in (None, one.job.name) and one.fits(wanted)]


def _seconds(value: Any) -> float:
    return float(value.total_seconds() if hasattr(value, "total_seconds") else value)


def has(whole: Mapping[str, Any], part: Mapping[str, Any]) -> bool:
    """Whether all of `part` is in `whole`."""
    return all(key in whole and whole[key] == value for key, value in part.items())


def instead(jobs: Sequence[Queued], name: str | None) -> str:
    """What is enqueued, those called `name` first."""
    ordered = sorted(jobs, key=lambda one: one.job.name != name)
    return table([one.row() for one in ordered], "Nothing is enqueued.")


def unlike(name: str, wanted: Mapping[str, Any], found: int, count: int | None) -> str:
    """What is wrong where `found` jobs are so and `count` are to be, or any number of them."""
    like = f" with {described(wanted)}" if wanted else ""
    if count is None or not found:
        return f"No job {name!r} is enqueued{like}."
    jobs = f"{found} jobs {name!r} are" if found > 1 else f"1 job {name!r} is"
    return f"{jobs} enqueued{like}, and {count} should be."


def described(wanted: Mapping[str, Any]) -> str:
    """The fields wanted, such as `payload={'user': 'ada'}, delay=60`."""
    return ", ".join(f"{field}={value!r}" for field, value in wanted.items())


class Sent(msgspec.Struct, frozen=True):
    """A notification, to the inbox `user:<user>` or to `channel:<name>`."""

    to: str
    content: dict[str, Any]

    def fits(self, to: str | None, content: Mapping[str, Any]) -> bool:
        """Whether it went there, or anywhere, and has that content in it."""
        return to in (None, self.to) and has(self.content, content)


def sent(log: MemoryLog) -> list[Sent]:
    """All notifications, by whom they went to."""
    events = [one.event for stored in log.events.values() for one in stored]
    said = [(event.subject, unwrap(event)) for event in events]
    return [
        Sent(to, data.content)
        for to, data in said
        if isinstance(data, NotificationSent | BroadcastSent)
    ]


def all_sent(notifications: Sequence[Sent]) -> str:
    """As they are shown."""
    rows = [(one.to, msgspec.json.encode(one.content).decode()) for one in notifications]
    return table(rows, "Nothing was sent.")


def table(rows: Sequence[tuple[str, ...]], nothing: str) -> str:
    """The rows in columns, at most SHOWN of them."""
    if not rows:
        return nothing
    shown = rows[:SHOWN]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = [
        "  "
        + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in shown
    ]
    more = [f"  ... and {len(rows) - SHOWN} more"] if len(rows) > SHOWN else []
    return "\n".join(["There are:", *lines, *more])
