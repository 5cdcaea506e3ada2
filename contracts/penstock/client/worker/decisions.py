"""What a worker decides about an attempt: retry or fail, take over or drop. Pure: never any I/O.

Time and randomness arrive as data.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import assert_never

import msgspec

from penstock.contracts.jobs import (
    Backoff,
    JobCancelled,
    JobCompleted,
    JobError,
    JobFailed,
    JobQueued,
    JobReleased,
    JobRetrying,
    JobStarted,
)
from penstock.contracts.lifecycle import Archived, Erased

Event = JobQueued | JobStarted | JobRetrying | JobReleased | JobCompleted | JobFailed | JobCancelled


class Drop(msgspec.Struct, frozen=True):
    """The work item is of no use any more: acknowledge it."""


class Wait(msgspec.Struct, frozen=True):
    """The job waits for its next attempt: see that its timer is set, then drop the item."""

    run_at: datetime


class Append(msgspec.Struct, frozen=True):
    """The job is ours to go on with: store `events`, and run it if the last one starts it."""

    events: tuple[Event, ...]


def delay_before_retry(backoff: Backoff, attempt: int, jitter: float) -> timedelta:
    """How long to wait after `attempt` (1 is the first) failed; `jitter` is from 0 to 1."""
    ceiling = min(backoff.maximum, backoff.initial * backoff.factor ** (attempt - 1))
    return timedelta(seconds=ceiling * jitter)


def after_failure(
    error: JobError,
    *,
    permanent: bool,
    attempt: int,
    max_attempts: int,
    backoff: Backoff,
    now: datetime,
    jitter: float,
) -> JobRetrying | JobFailed:
    """What follows when a handler raised: another attempt, or the end."""
    if permanent or attempt >= max_attempts:
        return JobFailed(attempt=attempt, error=error)
    run_at = now + delay_before_retry(backoff, attempt, jitter)
    return JobRetrying(attempt=attempt, error=error, run_at=run_at)


def after_conflict(
    last: Event | Erased | Archived, *, item: int, worker: str, max_attempts: int, now: datetime
) -> Drop | Wait | Append:
    """What to do with the work item `item` when the job has moved on to `last` meanwhile.

    The same item again means that the lease of who held it ran out, which costs an attempt, or
    that it was released, which costs none. Another item means that this one is a duplicate.
    """
    match last:
        case Erased() | Archived():
            return Drop()
        case JobQueued() | JobCompleted() | JobFailed() | JobCancelled():
            return Drop()
        case JobRetrying(run_at=run_at):
            return Wait(run_at)
        case JobStarted() | JobReleased() if last.item != item:
            return Drop()
        case JobReleased(attempt=attempt):
            return Append((JobStarted(attempt=attempt, worker=worker, item=item),))
        case JobStarted():
            return _take_over(last, item, worker, max_attempts, now)
        case _:
            assert_never(last)


def _take_over(
    lost: JobStarted, item: int, worker: str, max_attempts: int, now: datetime
) -> Append:
    error = JobError(
        type="WorkerLost",
        message=f"The worker {lost.worker} died, or did not renew its lease in time.",
    )
    if lost.attempt >= max_attempts:
        return Append((JobFailed(attempt=lost.attempt, error=error),))
    return Append(
        (
            JobRetrying(attempt=lost.attempt, error=error, run_at=now),
            JobStarted(attempt=lost.attempt + 1, worker=worker, item=item),
        )
    )
