"""A job: `decide` and the next step. Pure: time and ids arrive as data.

What a job is after an event is in `job_evolve`. Workers append the events of attempts themselves;
what they decide is in `client.worker.decisions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, assert_never

import msgspec

from penstock.contracts.errors import NotFound, PenstockError, Refused, TooLarge
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import (
    MAX_INLINE,
    CancelJob,
    DiscardJob,
    EnqueueJob,
    FailJob,
    JobCancelled,
    JobDiscarded,
    JobFailed,
    JobQueued,
    JobReady,
    JobRedriven,
    RedriveJob,
    Rules,
    SettleJob,
)
from penstock.infra.deciding.decider import Context
from penstock.jobs.gate import is_gated
from penstock.jobs.job_evolve import Event

Command = EnqueueJob | CancelJob | RedriveJob | DiscardJob | FailJob | SettleJob
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


def decide(state: JobState | None, command: Command, context: Context) -> Sequence[Event]:
    """The events that `command` causes. Raises NotFound, Refused or TooLarge."""
    if isinstance(command, EnqueueJob):
        return _enqueue(state, command, context)
    id = context.command.subject
    if state is None:
        raise NotFound(f"There is no job {id!r}.", id=id)
    match command:
        case CancelJob():
            return _cancel(state, command)
        case RedriveJob():
            return _redrive(state, command)
        case DiscardJob():
            return _discard(state, command)
        case FailJob():
            return _fail(state, command)
        case SettleJob():
            return []
        case _:
            assert_never(command)


def _enqueue(state: JobState | None, command: EnqueueJob, context: Context) -> Sequence[Event]:
    """The facts are why no new job may be enqueued, if so."""
    id = context.command.subject
    if state is not None:
        if (state.name, state.payload) == (command.name, command.payload):
            return []
        raise Refused(f"There is a job {id!r} with another name or payload; use another id.")
    if isinstance(context.facts, PenstockError):
        raise context.facts
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
            run_at=command.run_at or _after_seconds(context.now, command.delay),
            expires_at=_after_seconds(context.now, command.rules.total_timeout),
            rules=command.rules,
            origin=command.origin,
        )
    ]


def is_waiting(state: JobState) -> bool:
    """Whether it waits for a worker, for its time or for others."""
    return state.state in ("pending", "retrying")


def _after_seconds(now: datetime, seconds: float | None) -> datetime | None:
    return now + timedelta(seconds=seconds) if seconds else None


def _cancel(state: JobState, command: CancelJob) -> Sequence[Event]:
    if state.state == "cancelled" or (command.waiting and not is_waiting(state)):
        return []
    if state.is_over:
        raise Refused(f"The job {state.id!r} is {state.state} already; it cannot be cancelled.")
    return [JobCancelled(reason=command.reason)]


def _redrive(state: JobState, command: RedriveJob) -> Sequence[Event]:
    if state.is_over and state.origin and state.origin.workflow:
        workflow = state.origin.workflow
        raise Refused(f"The job {state.id!r} is of {workflow!r}; restart that instead.")
    if state.state == "completed":
        raise Refused(
            f"The job {state.id!r} is completed; `penstock jobs rerun` makes a new one of it."
        )
    return [JobRedriven(reason=command.reason)] if state.is_over else []


def _discard(state: JobState, command: DiscardJob) -> Sequence[Event]:
    if state.state != "failed":
        raise Refused(f"The job {state.id!r} is {state.state}; only failed ones are discarded.")
    return [] if state.discarded else [JobDiscarded(reason=command.reason)]


def _fail(state: JobState, command: FailJob) -> Sequence[Event]:
    begun = command.cause == "unhandled" and state.state == "processing"  # somebody came after all
    if state.is_over or begun:
        return []
    return [JobFailed(attempt=state.attempt, error=command.error, cause=command.cause)]


def next_step(state: JobState, sequence: int) -> Offer | Wait | Withdraw | None:
    """What must be so beside the log for a job whose last event is at `sequence`."""
    match state.state:
        case "pending" | "retrying":
            return Wait(state.run_at) if state.run_at else Offer(ready(state, sequence))
        case "cancelled" | "failed":
            return Withdraw()
        case "processing" | "completed":
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
        crashes=state.crashes,
        max_crashes=state.rules.max_crashes,
        timeout=state.rules.timeout,
        expires_at=state.expires_at,
        checkpoint=state.checkpoint,
        settle=is_gated(state.rules),
        settle_at=settles_at(state.rules),
        workflow=state.origin.workflow if state.origin else None,
        progress=state.progress,
    )


def settles_at(rules: Rules) -> Literal["both", "start", "end"]:
    """Which of the two others wait for at the job's gates; see `Gate.until`."""
    if rules.limit:
        return "both" if rules.rate or rules.tenant else "end"
    return "start" if is_gated(rules) else "both"
