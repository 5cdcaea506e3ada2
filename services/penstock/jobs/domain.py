"""What a job is: state, `decide`, `evolve` and the next step. Pure: time and ids arrive as data.

Workers append the events of attempts themselves; what they decide is in `client.worker_decisions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import assert_never

import msgspec
from msgspec.structs import replace

from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import NotFound, Refused, TooLarge
from penstock.contracts.jobs import (
    MAX_INLINE,
    CancelJob,
    EnqueueJob,
    JobCancelled,
    JobCompleted,
    JobError,
    JobFailed,
    JobQueued,
    JobReady,
    JobReleased,
    JobRetrying,
    JobStarted,
    JobState,
    State,
)
from penstock.infra.deciding.decider import Context

Event = JobQueued | JobStarted | JobRetrying | JobReleased | JobCompleted | JobFailed | JobCancelled
ERRORS_KEPT = 20


FINAL = ("completed", "failed", "cancelled")


def finished(state: JobState) -> str | None:
    """The final state it is in, if it is in one."""
    return state.state if state.is_over else None


class Offer(msgspec.Struct, frozen=True):
    """The job may be run: give workers this item."""

    ready: JobReady


class Wait(msgspec.Struct, frozen=True):
    """The job may be run from then on: set a timer."""

    run_at: datetime


class Withdraw(msgspec.Struct, frozen=True):
    """The job will not be run: take back its item and its timer."""


def decide(
    state: JobState | None, command: msgspec.Struct, context: Context
) -> Sequence[msgspec.Struct]:
    """The events that `command` causes. Raises NotFound, Refused or TooLarge."""
    match command:
        case EnqueueJob():
            return _enqueue(state, command, context)
        case CancelJob():
            return _cancel(state, command, context.command.subject)
        case _:
            raise TypeError(f"not a command of jobs: {type(command).__name__}")


def _enqueue(state: JobState | None, command: EnqueueJob, context: Context) -> Sequence[Event]:
    id = context.command.subject
    if state is not None:
        if (state.name, state.payload) == (command.name, command.payload):
            return []
        raise Refused(f"There is a job {id!r} with another name or payload; use another id.")
    size = len(msgspec.json.encode(command.payload))
    if size > MAX_INLINE:
        raise TooLarge(
            f"The payload has {size} bytes and a job takes at most {MAX_INLINE}; "
            "store it elsewhere and pass where."
        )
    return [
        JobQueued(
            name=command.name,
            payload=command.payload,
            queue=command.queue,
            priority=command.priority,
            max_attempts=command.max_attempts,
            backoff=command.backoff,
            tags=command.tags,
            run_at=context.now + timedelta(seconds=command.delay) if command.delay else None,
        )
    ]


def _cancel(state: JobState | None, command: CancelJob, id: str) -> Sequence[Event]:
    if state is None:
        raise NotFound(f"There is no job {id!r} to cancel.", id=id)
    if state.state == "cancelled":
        return []
    if state.is_over:
        raise Refused(f"The job {id!r} is {state.state} already; it cannot be cancelled.")
    return [JobCancelled(reason=command.reason)]


def next_step(state: JobState, sequence: int) -> Offer | Wait | Withdraw | None:
    """What must be so beside the log for a job whose last event is at `sequence`."""
    match state.state:
        case "pending" | "retrying":
            return Wait(state.run_at) if state.run_at else Offer(ready(state, sequence))
        case "cancelled":
            return Withdraw()
        case "processing" | "completed" | "failed":
            return None
        case _:
            assert_never(state.state)


def ready(state: JobState, sequence: int) -> JobReady:
    """The work item for the next attempt."""
    return JobReady(
        name=state.name,
        payload=msgspec.Raw(msgspec.json.encode(state.payload)),
        attempt=state.attempt + 1,
        max_attempts=state.max_attempts,
        backoff=state.backoff,
        sequence=sequence,
    )


def evolve(state: JobState | None, event: msgspec.Struct, envelope: Envelope) -> JobState:
    """The state after `event`."""
    if isinstance(event, JobQueued):
        return _queued(event, envelope)
    if state is None:
        raise ValueError(f"{envelope.type} comes before any JobQueued")
    return _after(state, _known(event), envelope.time)


def _queued(event: JobQueued, envelope: Envelope) -> JobState:
    return JobState(
        id=envelope.subject,
        name=event.name,
        queue=event.queue,
        priority=event.priority,
        payload=event.payload,
        max_attempts=event.max_attempts,
        backoff=event.backoff,
        run_at=event.run_at,
        created=envelope.time,
        tags=event.tags,
        correlationid=envelope.correlationid,
    )


def _known(event: msgspec.Struct) -> Event:
    if isinstance(event, Event):
        return event
    raise TypeError(f"not an event of jobs: {type(event).__name__}")


def _after(state: JobState, event: Event, now: datetime) -> JobState:
    match event:
        case JobQueued():
            return state
        case JobStarted():
            return replace(
                state,
                state="processing",
                attempt=event.attempt,
                worker=event.worker,
                run_at=None,
                started=now,
            )
        case JobRetrying():
            failed = _with_error(state, event.error)
            return replace(failed, state="retrying", worker=None, run_at=event.run_at)
        case JobReleased():
            return replace(state, state="pending", attempt=event.attempt - 1, worker=None)
        case JobCompleted():
            return replace(_end(state, "completed", now), result=event.result, error=None)
        case JobFailed():
            return _end(_with_error(state, event.error), "failed", now)
        case JobCancelled():
            return replace(_end(state, "cancelled", now), reason=event.reason)
        case _:
            assert_never(event)


def _with_error(state: JobState, error: JobError) -> JobState:
    return replace(state, error=error, errors=(*state.errors, error)[-ERRORS_KEPT:])


def _end(state: JobState, how: State, now: datetime) -> JobState:
    return replace(state, state=how, run_at=None, ended=now)
