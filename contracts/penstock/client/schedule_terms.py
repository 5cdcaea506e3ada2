"""What a schedule is put with: when it ticks, and what it enqueues then. Never sends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypedDict

from penstock.contracts.errors import InvalidMessage
from penstock.contracts.jobs import Backoff, Rules
from penstock.contracts.schedules import JobTemplate, Missed, Overlap, PutSchedule, Timing


class Terms(TypedDict, total=False):
    """What a schedule may have beside `cron`; see `Schedules.put`."""

    every: float | timedelta | None
    timezone: str
    start: datetime | None
    end: datetime | None
    jitter: float | timedelta
    missed: Missed
    most: int
    overlap: Overlap
    queue: str
    priority: int
    max_attempts: int
    backoff: Backoff | None
    tags: Sequence[str]
    rules: Rules | None


def put_command(
    job: str,
    payload: Mapping[str, Any] | None,
    *,
    cron: str | None = None,
    every: float | timedelta | None = None,
    timezone: str = "UTC",
    start: datetime | None = None,
    end: datetime | None = None,
    jitter: float | timedelta = 0,
    missed: Missed = "latest",
    most: int = 100,
    overlap: Overlap = "allow",
    queue: str = "default",
    priority: int = 5,
    max_attempts: int = 3,
    backoff: Backoff | None = None,
    tags: Sequence[str] = (),
    rules: Rules | None = None,
) -> PutSchedule:
    """What `Schedules.put` sends. Raises InvalidMessage."""
    timing = Timing(
        cron=cron,
        every=_whole(every),
        timezone=timezone,
        start=zoned(start, "start"),
        end=zoned(end, "end"),
        jitter=_seconds(jitter),
    )
    template = JobTemplate(
        name=job,
        payload=dict(payload or {}),
        queue=queue,
        priority=priority,
        max_attempts=max_attempts,
        backoff=backoff or Backoff(),
        tags=tuple(tags),
        rules=rules or Rules(),
    )
    return PutSchedule(job=template, timing=timing, missed=missed, most=most, overlap=overlap)


def _seconds(time: float | timedelta) -> float:
    return time.total_seconds() if isinstance(time, timedelta) else time


def _whole(every: float | timedelta | None) -> int | None:
    """`every` in seconds. Raises InvalidMessage where that is no whole number."""
    if every is None:
        return None
    seconds = _seconds(every)
    if seconds != int(seconds) or seconds < 1:
        raise InvalidMessage(
            f"every={every!r} is not a whole number of seconds from 1 on, such as 600.",
            path="every",
        )
    return int(seconds)


def zoned(moment: datetime | None, name: str) -> datetime | None:
    """`moment`, which needs an offset. Raises InvalidMessage."""
    if moment is not None and moment.tzinfo is None:
        raise InvalidMessage(
            f"{name}={moment.isoformat()!r} has no time zone: give it one, such as "
            "datetime(2026, 1, 31, 9, 30, tzinfo=UTC).",
            path=name,
        )
    return moment
