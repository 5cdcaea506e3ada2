"""What a worker decides about an attempt: retry or fail, take over or drop. Pure: never any I/O.

Time and randomness arrive as data.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import assert_never

import msgspec

from penstock.client.worker.policy import Action, Dead, Discarded, Retried, Snoozed
from penstock.contracts.jobs import (
    Backoff,
    FailureCause,
    JobCancelled,
    JobCheckpointed,
    JobCompleted,
    JobDiscarded,
    JobError,
    JobFailed,
    JobLogged,
    JobQueued,
    JobReady,
    JobRedriven,
    JobReleased,
    JobRetrying,
    JobSnoozed,
    JobStarted,
)
from penstock.contracts.lifecycle import Archived, Erased

End = JobCompleted | JobFailed | JobCancelled | JobRetrying | JobSnoozed | JobReleased
Event = End | JobQueued | JobStarted | JobCheckpointed | JobLogged | JobRedriven | JobDiscarded


class Drop(msgspec.Struct, frozen=True):
    """The work item is of no use any more: acknowledge it."""


class Wait(msgspec.Struct, frozen=True):
    """The job waits for its next attempt: see that its timer is set, then drop the item."""

    run_at: datetime


class Append(msgspec.Struct, frozen=True):
    """The job is ours to go on with: store `events`, and run it if the last one starts it."""

    events: tuple[Event, ...]


class Failure(msgspec.Struct, frozen=True):
    """An attempt that did not come to its end, what its policy says, and when."""

    error: JobError
    action: Action
    cause: FailureCause = "permanent"
    over: bool = False  # the time of the whole job is


def delay_before_retry(backoff: Backoff, attempt: int, jitter: float) -> timedelta:
    """How long to wait after `attempt` (1 is the first) failed; `jitter` is from 0 to 1."""
    ceiling = min(backoff.maximum, backoff.initial * backoff.factor ** (attempt - 1))
    return timedelta(seconds=ceiling * jitter)


def after_failure(
    failure: Failure,
    *,
    attempt: int,
    max_attempts: int,
    backoff: Backoff,
    now: datetime,
    jitter: float,
) -> End:
    """What follows when a handler raised: another attempt, or the end."""
    error, action = failure.error, failure.action
    if failure.over:
        return JobFailed(attempt=attempt, error=error, cause="timeout")
    match action:
        case Dead():
            return JobFailed(attempt=attempt, error=error, cause=failure.cause)
        case Discarded():
            return JobCancelled(reason=error.message or error.type, error=error)
        case Snoozed():
            run_at = now + timedelta(seconds=action.seconds)
            return JobSnoozed(attempt=attempt, run_at=run_at, reason=error.message or error.type)
        case Retried():
            if attempt >= max_attempts:
                return JobFailed(attempt=attempt, error=error)
            run_at = now + delay_before_retry(action.backoff or backoff, attempt, jitter)
            return JobRetrying(attempt=attempt, error=error, run_at=run_at)
        case _:
            assert_never(action)


def after_crash(
    error: JobError,
    *,
    attempt: int,
    crashes: int,
    max_crashes: int,
    backoff: Backoff,
    now: datetime,
    jitter: float,
) -> JobRetrying | JobFailed:
    """What follows when the process that ran the handler died: it spends a crash, no attempt."""
    if crashes + 1 >= max_crashes:
        return JobFailed(attempt=attempt, error=error, cause="crashes")
    run_at = now + delay_before_retry(backoff, crashes + 1, jitter)
    return JobRetrying(attempt=attempt, error=error, run_at=run_at, crash=True)


def taking(
    since: Sequence[Event | Erased | Archived],
    ready: JobReady,
    *,
    item: int,
    worker: str,
    now: datetime,
) -> Drop | Wait | Append:
    """What to do with the work item `item` when `since` happened to the job after it was made.

    The same item again means that the lease of who held it ran out, which spends a crash, or that
    it was released, which spends nothing. Another item means that this one is a duplicate.
    """
    last = _last(since)
    match last:
        case None:
            return Append((JobStarted(attempt=ready.attempt, worker=worker, item=item),))
        case JobStarted() | JobReleased() if last.item != item:
            return Drop()
        case JobRetrying() | JobSnoozed():
            return Wait(last.run_at)
        case JobReleased():
            return Append((JobStarted(attempt=last.attempt, worker=worker, item=item),))
        case JobStarted():
            crashes = ready.crashes + sum(_is_crash(event) for event in since)
            return _take_over(last, crashes, ready.max_crashes, item, worker, now)
        case _:
            return Drop()


def _last(since: Sequence[Event | Erased | Archived]) -> Event | Erased | Archived | None:
    """The last event that says how the job stands."""
    said = (
        event for event in reversed(since) if not isinstance(event, JobCheckpointed | JobLogged)
    )
    return next(said, None)


def _is_crash(event: Event | Erased | Archived) -> bool:
    return isinstance(event, JobRetrying) and event.crash


def _take_over(
    lost: JobStarted, crashes: int, max_crashes: int, item: int, worker: str, now: datetime
) -> Append:
    error = JobError(
        type="WorkerLost",
        message=f"The worker {lost.worker} died, or did not renew its lease in time.",
    )
    if crashes + 1 >= max_crashes:
        return Append((JobFailed(attempt=lost.attempt, error=error, cause="crashes"),))
    return Append(
        (
            JobRetrying(attempt=lost.attempt, error=error, run_at=now, crash=True),
            JobStarted(attempt=lost.attempt, worker=worker, item=item),
        )
    )
