"""A schedule: `decide`, `evolve`, and what comes of a tick. Pure: time and ids arrive as data.

When it ticks is for `schedule_timing`, what is made of ticks for `schedule_ticks`. No command makes
it tick: see `schedule_runner`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import assert_never

import msgspec
from msgspec.structs import replace

from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import InvalidMessage, NotFound, TooLarge
from penstock.contracts.jobs import MAX_INLINE, EnqueueJob, Origin
from penstock.contracts.schedules import (
    DeleteSchedule,
    JobTemplate,
    PauseSchedule,
    PutSchedule,
    ResumeSchedule,
    ScheduleDeleted,
    SchedulePaused,
    SchedulePut,
    ScheduleResumed,
    ScheduleState,
    ScheduleTicked,
    ScheduleTriggered,
    TriggerSchedule,
    schedule_name,
    tick_id,
    trigger_id,
)
from penstock.contracts.subjects import MAX_ID
from penstock.infra.deciding.decider import Context
from penstock.jobs.schedule_ticks import due_ticks, make, next_tick
from penstock.jobs.schedule_timing import checked

Command = PutSchedule | PauseSchedule | ResumeSchedule | TriggerSchedule | DeleteSchedule
Event = (
    SchedulePut
    | SchedulePaused
    | ScheduleResumed
    | ScheduleTriggered
    | ScheduleTicked
    | ScheduleDeleted
)
LONGEST_NAME = 128


def finished(state: ScheduleState) -> str | None:
    """The final state it is in, if it is in one."""
    return "deleted" if state.deleted else None


def decide(state: ScheduleState | None, command: Command, context: Context) -> Sequence[Event]:
    """The events that `command` causes. Raises NotFound, InvalidMessage or TooLarge."""
    id = context.command.subject
    if isinstance(command, PutSchedule):
        return _put(state, command, schedule_name(id), context.now)
    if state is None:
        raise NotFound(f"There is no schedule {schedule_name(id)!r}.", id=id)
    if isinstance(command, DeleteSchedule):
        return [] if state.deleted else [ScheduleDeleted(reason=command.reason)]
    if state.deleted:
        raise NotFound(f"The schedule {state.name!r} was deleted; put it anew.", id=id)
    match command:
        case PauseSchedule():
            return [] if state.paused else [SchedulePaused(reason=command.reason)]
        case ResumeSchedule():
            return _resume(state, context.now)
        case TriggerSchedule():
            return [ScheduleTriggered(job=_fitting(trigger_id(state.name, context.command.id)))]
        case _:
            assert_never(command)


def _put(
    state: ScheduleState | None, command: PutSchedule, name: str, now: datetime
) -> Sequence[Event]:
    _check_name(name)
    _check_payload(command)
    command = replace(command, timing=checked(command.timing))
    present = state if state and not state.deleted else None
    if present and _form(present) == _form(command):
        return []
    after, coming = now, next_tick(command.timing, now)
    if present and present.timing == command.timing:
        after, coming = present.after, present.next
    elif coming is None:
        raise InvalidMessage(
            f"The schedule {name!r} would never run: its `end` is past.", path="$.data.timing.end"
        )
    paused = present is not None and present.paused
    return [
        SchedulePut(
            job=command.job,
            timing=command.timing,
            missed=command.missed,
            most=command.most,
            overlap=command.overlap,
            after=after,
            next=None if paused else coming,
        )
    ]


def _form(of: PutSchedule | ScheduleState) -> tuple[object, ...]:
    return of.job, of.timing, of.missed, of.most, of.overlap


def _check_name(name: str) -> None:
    if not 0 < len(name) <= LONGEST_NAME or ":" in name:
        raise InvalidMessage(
            f"{name!r} cannot be a schedule's name: it has 1 to {LONGEST_NAME} characters and "
            "no ':', such as 'nightly-report'.",
            path="$.subject",
        )


def _check_payload(command: PutSchedule) -> None:
    size = len(msgspec.json.encode(command.job.payload))
    if size > MAX_INLINE:
        raise TooLarge(
            f"The payload has {size} bytes and a job takes at most {MAX_INLINE}; "
            "store it elsewhere and pass where."
        )


def _fitting(job: str) -> str:
    if len(job) > MAX_ID:
        raise InvalidMessage(
            f"The command's id makes the job's id {len(job)} characters long, and {MAX_ID} are "
            "allowed; use a shorter one.",
            path="$.id",
        )
    return job


def _resume(state: ScheduleState, now: datetime) -> Sequence[Event]:
    if not state.paused:
        return []
    return [ScheduleResumed(after=now, next=next_tick(state.timing, now))]


def tick(state: ScheduleState, now: datetime, *, busy: bool) -> ScheduleTicked | None:
    """What comes of the ticks that are due at `now`; None while none is to come at all.

    To be asked when the timer of `state.next` went off: that is due, whatever this clock says.
    `busy`: the schedule's last job is not over.
    """
    if state.next is None:
        return None
    now = max(now, state.next)
    ticks, uncounted = due_ticks(state.timing, state.after, now)
    if not ticks:  # a newer time zone database says so
        return ScheduleTicked(through=now, next=next_tick(state.timing, now))
    made = make(ticks, now, state.missed, state.most, overlap=state.overlap, busy=busy)
    return ScheduleTicked(
        through=made.through,
        run=made.run,
        skipped=made.skipped + uncounted,
        overlapping=made.overlapping,
        next=next_tick(state.timing, made.through),
    )


def enqueueing(job: JobTemplate, schedule: str, delay: float) -> EnqueueJob:
    """The command that enqueues a job of `schedule`, which waits for `delay` seconds yet."""
    return EnqueueJob(
        name=job.name,
        payload=job.payload,
        queue=job.queue,
        priority=job.priority,
        delay=delay,
        max_attempts=job.max_attempts,
        backoff=job.backoff,
        tags=job.tags,
        rules=job.rules,
        origin=Origin(schedule=schedule),
    )


def evolve(state: ScheduleState | None, event: Event, envelope: Envelope) -> ScheduleState:
    """The state after `event`."""
    if isinstance(event, SchedulePut):
        return _after_put(state, event, envelope)
    if state is None:
        raise ValueError(f"{envelope.type} comes before any SchedulePut")
    match event:
        case SchedulePaused():
            return replace(state, paused=True, reason=event.reason, next=None)
        case ScheduleResumed():
            going = replace(state, paused=False, reason=None)
            return replace(going, after=event.after, next=event.next)
        case ScheduleTriggered():
            return replace(state, last_job=event.job, triggered=state.triggered + 1)
        case ScheduleTicked():
            return _after_tick(state, event, envelope.time)
        case ScheduleDeleted():
            return replace(state, deleted=True, reason=event.reason, next=None)
        case _:
            assert_never(event)


def _after_put(
    state: ScheduleState | None, event: SchedulePut, envelope: Envelope
) -> ScheduleState:
    put = ScheduleState(
        id=envelope.subject,
        name=schedule_name(envelope.subject),
        job=event.job,
        timing=event.timing,
        missed=event.missed,
        most=event.most,
        overlap=event.overlap,
        created=envelope.time,
        changed=envelope.time,
        after=event.after,
        next=event.next,
    )
    if state is None:
        return put
    kept = ("created", "due", "ticked", "last", "last_job", "ran", "skipped", "triggered")
    put = replace(put, **{field: getattr(state, field) for field in kept})
    return put if state.deleted else replace(put, paused=state.paused, reason=state.reason)


def _after_tick(state: ScheduleState, event: ScheduleTicked, now: datetime) -> ScheduleState:
    ticked = replace(
        state,
        after=event.through,
        next=event.next,
        due=event.run,
        ticked=now,
        ran=state.ran + len(event.run),
        skipped=state.skipped + event.skipped,
    )
    if not event.run:
        return ticked
    last = event.run[-1]
    return replace(ticked, last=last, last_job=tick_id(state.name, last))
