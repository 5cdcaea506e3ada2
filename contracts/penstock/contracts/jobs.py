"""Jobs: their commands, events, work items, timers and state, version 1. Never any logic."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from penstock.contracts.answers import Question
from penstock.contracts.envelope import Envelope, Time, command, event, wrap

SERVICE = "jobs"
PRIORITIES = range(10)
MAX_INLINE = 512 * 1024  # bytes of JSON that a payload or a result may have
YEAR = 366 * 86_400

State = Literal["pending", "processing", "completed", "failed", "cancelled", "retrying"]
Priority = Annotated[int, msgspec.Meta(ge=0, le=9)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
QueueName = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Delay = Annotated[float, msgspec.Meta(ge=0, le=YEAR)]
Attempts = Annotated[int, msgspec.Meta(ge=1, le=100)]


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What all messages here share. States, unlike messages, always show every field."""


class Backoff(Message, frozen=True, kw_only=True):
    """How long a job waits after attempt n failed: at random between 0 and a ceiling in seconds.

    The ceiling is `initial` x `factor` ** (n - 1), but at most `maximum` ("full jitter",
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """

    initial: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 1.0
    factor: Annotated[float, msgspec.Meta(ge=1, le=100)] = 2.0
    maximum: Annotated[float, msgspec.Meta(ge=0, le=YEAR)] = 300.0


class JobError(Message, frozen=True, kw_only=True):
    """Why an attempt failed: the class and message of what the handler raised.

    `WorkerLost` stands for a worker that died, or stopped renewing its lease.
    """

    type: str
    message: str
    traceback: str = ""


@command(SERVICE, "enqueue")
class EnqueueJob(Message, frozen=True, kw_only=True):
    """Run the handler `name` with the fields of `payload` as its arguments.

    `priority` 9 goes first, 0 last. `delay` is in seconds. `max_attempts` counts the first one.
    """

    name: Name
    payload: dict[str, Any] = {}
    queue: QueueName = "default"
    priority: Priority = 5
    delay: Delay = 0.0
    max_attempts: Attempts = 3
    backoff: Backoff = Backoff()
    tags: tuple[str, ...] = ()


@command(SERVICE, "cancel")
class CancelJob(Message, frozen=True, kw_only=True):
    """Do not run the job, or do not wait for the attempt under way: its outcome is refused."""

    reason: str | None = None


@event(SERVICE, "queued")
class JobQueued(Message, frozen=True, kw_only=True):
    """The job waits for a worker, or first for `run_at`."""

    name: str
    payload: dict[str, Any] = {}
    queue: str = "default"
    priority: int = 5
    max_attempts: int = 3
    backoff: Backoff = Backoff()
    tags: tuple[str, ...] = ()
    run_at: Time | None = None


@event(SERVICE, "started")
class JobStarted(Message, frozen=True, kw_only=True):
    """A worker holds the job. `item` is the work item's stream sequence: who gets the same item
    again knows that the lease ran out, who gets another knows that it is a duplicate.
    """

    attempt: int
    worker: str
    item: int


@event(SERVICE, "retrying")
class JobRetrying(Message, frozen=True, kw_only=True):
    """The attempt failed and another one follows at `run_at`."""

    attempt: int
    error: JobError
    run_at: Time


@event(SERVICE, "released")
class JobReleased(Message, frozen=True, kw_only=True):
    """The worker gave the job back unfinished; the attempt does not count."""

    attempt: int
    worker: str
    item: int
    reason: str


@event(SERVICE, "completed")
class JobCompleted(Message, frozen=True, kw_only=True):
    """The handler returned `result`."""

    attempt: int
    result: Any = None


@event(SERVICE, "failed")
class JobFailed(Message, frozen=True, kw_only=True):
    """The attempt failed and no other one follows."""

    attempt: int
    error: JobError


@event(SERVICE, "cancelled")
class JobCancelled(Message, frozen=True, kw_only=True):
    """The job was cancelled; nothing more comes of it."""

    reason: str | None = None


@event(SERVICE, "ready")
class JobReady(Message, frozen=True, kw_only=True):
    """A work item: the job may be run. Its envelope's cause is the event that made it so.

    Goes to the workers and is never stored among the events. `sequence` is the job's last event's:
    whoever starts the job appends after it, so that only one can.
    """

    name: str
    payload: msgspec.Raw
    attempt: int
    max_attempts: int
    backoff: Backoff
    sequence: int


@event(SERVICE, "due")
class JobDue(Message, frozen=True, kw_only=True):
    """A timer: the time of the job has come, if `sequence` is still its last event's.

    Goes to the jobs service and is never stored among the events.
    """

    sequence: int


class JobState(msgspec.Struct, frozen=True, kw_only=True):
    """A job. `attempt` is the one under way, or the last one; 0 before the first.

    `error` is why it failed or is tried again, `errors` the latest of all attempts; `reason` is why
    it was cancelled. `started` is when the present or last attempt began.
    """

    id: str
    name: str
    state: State = "pending"
    queue: str
    priority: int
    payload: dict[str, Any]
    attempt: int = 0
    max_attempts: int
    backoff: Backoff
    result: Any = None
    error: JobError | None = None
    errors: tuple[JobError, ...] = ()
    reason: str | None = None
    worker: str | None = None
    run_at: Time | None = None
    created: Time
    started: Time | None = None
    ended: Time | None = None
    tags: tuple[str, ...] = ()
    correlationid: str

    @property
    def is_over(self) -> bool:
        """True once nothing more will happen."""
        return self.state in ("completed", "failed", "cancelled")


class ListJobs(Question, frozen=True, kw_only=True, omit_defaults=True):
    """Jobs, newest first; `before` is the id of the last one of the page before."""

    state: State | None = None
    queue: str | None = None
    name: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    before: str | None = None


class QueueDepth(msgspec.Struct, frozen=True, kw_only=True):
    """The jobs of one queue and priority: `waiting` for a worker, `delayed` until their time
    (retries too), `processing` now.
    """

    queue: str
    priority: int
    waiting: int
    delayed: int
    processing: int


def timer(cause: Envelope, sequence: int) -> Envelope:
    """The message for the timer of a job that waits since its event `cause`, at `sequence`."""
    return wrap(
        JobDue(sequence=sequence),
        id=f"{cause.id}:due",
        subject=cause.subject,
        time=cause.time,
        correlationid=cause.correlationid,
        cause=cause,
        actor=cause.actor,
        traceparent=cause.traceparent,
    )
