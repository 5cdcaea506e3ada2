"""What a job is after an event. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import assert_never

from msgspec.structs import replace

from penstock.contracts.envelope import Envelope
from penstock.contracts.job_state import JobState, State
from penstock.contracts.jobs import (
    JobCancelled,
    JobCheckpointed,
    JobCompleted,
    JobDiscarded,
    JobError,
    JobFailed,
    JobLogged,
    JobQueued,
    JobRedriven,
    JobReleased,
    JobRetrying,
    JobSnoozed,
    JobStarted,
)

Event = (
    JobQueued
    | JobStarted
    | JobRetrying
    | JobSnoozed
    | JobReleased
    | JobCheckpointed
    | JobLogged
    | JobCompleted
    | JobFailed
    | JobCancelled
    | JobRedriven
    | JobDiscarded
)
ERRORS_KEPT = 20


def evolve(state: JobState | None, event: Event, envelope: Envelope) -> JobState:
    """The state after `event`."""
    if isinstance(event, JobQueued):
        return _queued(event, envelope)
    if state is None:
        raise ValueError(f"{envelope.type} comes before any JobQueued")
    return _after(state, event, envelope.time)


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
        expires_at=event.expires_at,
        rules=event.rules,
        origin=event.origin,
    )


def _after(state: JobState, event: Event, now: datetime) -> JobState:
    match event:
        case JobStarted():
            return replace(
                state,
                state="processing",
                attempt=event.attempt,
                worker=event.worker,
                run_at=None,
                started=now,
            )
        case JobCompleted():
            return replace(
                state,
                state="completed",
                result=event.result,
                stored=event.stored,
                error=None,
                run_at=None,
                ended=now,
                progress=state.progress or event.progress,
            )
        case JobQueued():
            return state
        case JobRetrying():
            return _retrying(state, event)
        case JobSnoozed():
            back = replace(state, state="pending", attempt=event.attempt - 1, worker=None)
            return replace(back, run_at=event.run_at)
        case JobReleased():
            return replace(state, state="pending", attempt=event.attempt - 1, worker=None)
        case JobCheckpointed():
            return replace(state, checkpoint=event.checkpoint)
        case JobLogged():
            return replace(state, progress=state.progress or event.progress)
        case JobFailed():
            failed = _end(_with_error(state, event.error), "failed", now)
            return replace(failed, cause=event.cause, progress=state.progress or event.progress)
        case JobCancelled():
            if event.error:
                state = _with_error(state, event.error)
            return replace(_end(state, "cancelled", now), reason=event.reason)
        case JobRedriven():
            return _redriven(state)
        case JobDiscarded():
            return replace(state, discarded=True)
        case _:
            assert_never(event)


def _retrying(state: JobState, event: JobRetrying) -> JobState:
    failed = _with_error(state, event.error)
    waits = replace(failed, state="retrying", worker=None, run_at=event.run_at)
    if event.crash:
        return replace(waits, attempt=event.attempt - 1, crashes=state.crashes + 1)
    return waits


def _redriven(state: JobState) -> JobState:
    anew = replace(state, state="pending", attempt=0, crashes=0, worker=None, run_at=None)
    over = replace(anew, error=None, cause=None, discarded=False, reason=None, ended=None)
    return replace(over, result=None, stored=None, expires_at=None)


def _with_error(state: JobState, error: JobError) -> JobState:
    return replace(state, error=error, errors=(*state.errors, error)[-ERRORS_KEPT:])


def _end(state: JobState, how: State, now: datetime) -> JobState:
    return replace(state, state=how, run_at=None, ended=now)
