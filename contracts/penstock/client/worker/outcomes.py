"""The event that says how an attempt ended, from what its handler returned, raised or suffered.

What follows a failure is decided in `decisions`. Never stores the event.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any, Protocol

from msgspec.structs import replace

from penstock.client.worker.decisions import End, Failure, after_crash, after_failure
from penstock.client.worker.described import described
from penstock.client.worker.handlers import Handler
from penstock.client.worker.holding import Holding
from penstock.client.worker.policy import Dead
from penstock.client.worker.processes import ProcessDied
from penstock.client.worker.results import keep
from penstock.contracts.errors import InvalidMessage
from penstock.contracts.jobs import JobCompleted, JobReady, JobReleased

log = logging.getLogger(__name__)

TIMED_OUT = "TimedOut"
TIME_OVER = "The time for it was over before it came to its end."


class Tried(Protocol):
    """An attempt that comes to its end; `ready` is what it was begun with."""

    handler: Handler
    ready: JobReady
    attempt: int

    def now(self) -> datetime:
        """The present moment."""
        ...

    def jitter(self) -> float:
        """From 0 to 1, at random."""
        ...


async def completed(job: Holding, value: Any) -> End:
    """The handler returned `value`; one that cannot be kept fails the job."""
    try:
        result, stored = await keep(job.station.objects, job.name, job.id, job.started, value)
    except Exception as error:  # noqa: BLE001 - the store's, or of a value that JSON cannot carry
        return unkept(job, error)
    return JobCompleted(attempt=job.attempt, result=result, stored=stored)


def unkept(job: Tried, error: Exception) -> End:
    """What the handler returned cannot be kept."""
    return _failed(job, Failure(described(error, trace=False), Dead()))


def unfit(job: Tried, error: InvalidMessage) -> End:
    """The payload does not fit the handler's arguments."""
    return _failed(job, Failure(described(error, trace=False), Dead(), cause="payload"))


def raised(job: Tried, error: BaseException) -> End:
    """The handler raised."""
    return _failed(job, Failure(described(error), job.handler.policy.after(error)))


def crashed(job: Holding, error: ProcessDied) -> End:
    """The process that the handler ran in died."""
    return after_crash(
        described(error, trace=False),
        attempt=job.attempt,
        crashes=job.crashes,
        max_crashes=job.ready.max_crashes,
        backoff=job.ready.backoff,
        now=job.now(),
        jitter=job.jitter(),
    )


def unfinished(job: Holding) -> End | None:
    """The handler was stopped; None if the job is no longer ours."""
    match job.stopped:
        case "shutdown":
            return JobReleased(
                attempt=job.attempt,
                worker=job.station.worker,
                item=job.item,
                reason="the worker shuts down",
            )
        case "timeout":
            return timed_out(job, TimeoutError(TIME_OVER))
        case _:
            log.info("job %s was cancelled, or its lease lost", job.id)
            return None


def deadline_of(
    now: datetime, seconds: float | None, expires_at: datetime | None
) -> datetime | None:
    """When an attempt that begins `now` is over: by its own time or the job's; None for never."""
    ends = [now + timedelta(seconds=seconds)] if seconds else []
    return min([*ends, expires_at] if expires_at else ends, default=None)


def timed_out(job: Tried, error: TimeoutError) -> End:
    """The time for the attempt, or for the job, is over; `error` is what stands for that."""
    named = replace(described(error, trace=False), type=TIMED_OUT)
    over = job.ready.expires_at is not None and job.now() >= job.ready.expires_at
    return _failed(job, Failure(named, job.handler.policy.after(error), over=over))


def _failed(job: Tried, failure: Failure) -> End:
    policy, ready = job.handler.policy, job.ready
    return after_failure(
        failure,
        attempt=job.attempt,
        max_attempts=policy.max_attempts or ready.max_attempts,
        backoff=policy.backoff or ready.backoff,
        now=job.now(),
        jitter=job.jitter(),
    )
