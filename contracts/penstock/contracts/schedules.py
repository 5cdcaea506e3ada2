"""Schedules of jobs: their commands, events, state and questions, version 1. Never any logic.

The schedule `nightly` is the aggregate `schedule:nightly`. The job of a tick has an id that tells
the schedule and the time of the tick, so that there is one however often it is asked for.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec

from penstock.contracts.answers import Question
from penstock.contracts.envelope import Time, command, event
from penstock.contracts.jobs import (
    SERVICE,
    Attempts,
    Backoff,
    Delay,
    Message,
    Name,
    Priority,
    QueueName,
    Rules,
)

PREFIX = "schedule:"
DAY = 86_400

Missed = Literal["skip", "latest", "all"]
Overlap = Literal["allow", "skip"]
Every = Annotated[int, msgspec.Meta(ge=1, le=366 * DAY)]
Expression = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Zone = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
AtOnce = Annotated[int, msgspec.Meta(ge=1, le=1000)]
Runs = Annotated[int, msgspec.Meta(ge=0, le=1000)]


class JobTemplate(Message, frozen=True, kw_only=True):
    """What each tick enqueues: see `EnqueueJob`."""

    name: Name
    payload: dict[str, Any] = msgspec.field(default_factory=dict)
    queue: QueueName = "default"
    priority: Priority = 5
    max_attempts: Attempts = 3
    backoff: Backoff = Backoff()
    tags: tuple[str, ...] = ()
    rules: Rules = Rules()


class Timing(Message, frozen=True, kw_only=True):
    """When a schedule ticks: by `cron`, or `every` so many seconds; one of the two is given.

    `cron` has five fields (minute, hour, day of month, month, day of week), or six with seconds
    first, or is one of @hourly, @daily, @weekly, @monthly, @yearly and `@every 10m`. It is read in
    `timezone`. `every` counts from `start`, without one from the epoch, so that the ticks are the
    same whenever it was said: every 600 seconds is at :00, :10, :20. No tick is before `start` or
    after `end`. With `jitter` the job of a tick waits for up to so many seconds, each for others.
    """

    cron: Expression | None = None
    every: Every | None = None
    timezone: Zone = "UTC"
    start: Time | None = None
    end: Time | None = None
    jitter: Delay = 0.0


@command(SERVICE, "put_schedule")
class PutSchedule(Message, frozen=True, kw_only=True):
    """Have `job` run at the times that `timing` tells: a new schedule, or another form of one.

    Of several ticks that are due at once, since nothing ran for a while, all but the last are
    missed, and so is the last when it is late by more than a minute. `missed` says what becomes of
    those: `skip` them; run the `latest`, if the last tick is missed; or `all` of them, at most the
    `most` last ones. With the `overlap` "skip" a tick passes while the schedule's last job is not
    over. A paused schedule stays paused.
    """

    job: JobTemplate
    timing: Timing
    missed: Missed = "latest"
    most: AtOnce = 100
    overlap: Overlap = "allow"


@command(SERVICE, "pause_schedule")
class PauseSchedule(Message, frozen=True, kw_only=True):
    """Let no tick run until the schedule is resumed; what passes meanwhile is not missed."""

    reason: str | None = None


@command(SERVICE, "resume_schedule")
class ResumeSchedule(Message, frozen=True, kw_only=True):
    """Go on with the next tick."""


@command(SERVICE, "trigger_schedule")
class TriggerSchedule(Message, frozen=True, kw_only=True):
    """Run the job now, beside the ticks, also of a paused schedule. One command, one job."""


@command(SERVICE, "delete_schedule")
class DeleteSchedule(Message, frozen=True, kw_only=True):
    """Let no tick run any more. Jobs that were enqueued stay."""

    reason: str | None = None


@event(SERVICE, "schedule_put")
class SchedulePut(Message, frozen=True, kw_only=True):
    """The schedule runs `job` from now on. Ticks up to `after` are not its concern."""

    job: JobTemplate
    timing: Timing
    missed: Missed = "latest"
    most: int = 100
    overlap: Overlap = "allow"
    after: Time
    next: Time | None = None


@event(SERVICE, "schedule_paused")
class SchedulePaused(Message, frozen=True, kw_only=True):
    """No tick runs until it is resumed."""

    reason: str | None = None


@event(SERVICE, "schedule_resumed")
class ScheduleResumed(Message, frozen=True, kw_only=True):
    """It goes on with the tick at `next`."""

    after: Time
    next: Time | None = None


@event(SERVICE, "schedule_triggered")
class ScheduleTriggered(Message, frozen=True, kw_only=True):
    """Somebody wanted it to run at once, as `job`."""

    job: str


@event(SERVICE, "schedule_ticked")
class ScheduleTicked(Message, frozen=True, kw_only=True):
    """The time of ticks has come, the last one at `through`.

    Those in `run` have their jobs enqueued, `skipped` others have none: they were missed, or, of
    those `overlapping`, the last job was not over. More than 1,000 of cron are not counted on.
    """

    through: Time
    run: tuple[Time, ...] = ()
    skipped: int = 0
    overlapping: int = 0
    next: Time | None = None


@event(SERVICE, "schedule_deleted")
class ScheduleDeleted(Message, frozen=True, kw_only=True):
    """No tick runs any more."""

    reason: str | None = None


class ScheduleState(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="schedule"):
    """A schedule. `next` is the tick to come, None if there is none: it is paused, deleted or over.

    Ticks after `after` are to come. `due` are those that ran when it last ticked, at `ticked`;
    `last` is the newest that ever ran, `last_job` the newest job, of a tick or by hand. `ran` and
    `skipped` count ticks, `triggered` the jobs by hand. `reason` is why it was paused or deleted.
    """

    id: str
    name: str
    job: JobTemplate
    timing: Timing
    missed: Missed
    most: int
    overlap: Overlap
    paused: bool = False
    deleted: bool = False
    reason: str | None = None
    created: Time
    changed: Time
    after: Time
    next: Time | None = None
    due: tuple[Time, ...] = ()
    ticked: Time | None = None
    last: Time | None = None
    last_job: str | None = None
    ran: int = 0
    skipped: int = 0
    triggered: int = 0


class ListSchedules(Question, frozen=True, kw_only=True, omit_defaults=True):
    """Schedules by name; `after` is the name of the last one of the page before."""

    paused: bool | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    after: str = ""


class ShowSchedule(Question, frozen=True, kw_only=True, omit_defaults=True):
    """One schedule and its `next` ticks, so many, after `after` if that is given."""

    name: str
    next: Runs = 5
    after: Time | None = None


class ShownSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule, and the ticks to come as if it were not paused."""

    schedule: ScheduleState
    next_runs: tuple[Time, ...]


def schedule_id(name: str) -> str:
    """The aggregate of the schedule `name`."""
    return PREFIX + name


def schedule_name(id: str) -> str:
    """The name of the schedule whose aggregate is `id`."""
    return id.removeprefix(PREFIX)


def tick_id(name: str, tick: datetime) -> str:
    """The job of a schedule's tick, such as `nightly@20260131T020000Z`; also its command's id."""
    return f"{name}@{tick.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def trigger_id(name: str, command_id: str) -> str:
    """The job of a schedule that a command asked for beside its ticks."""
    return f"{name}@now:{command_id}"
