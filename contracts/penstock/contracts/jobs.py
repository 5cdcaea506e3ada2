"""Jobs: their commands, events, work items and timers, version 1. Never any logic.

The state that they make is in `job_state`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from penstock.contracts.envelope import Envelope, Time, command, event, wrap

SERVICE = "jobs"
PRIORITIES = range(10)
MAX_INLINE = 512 * 1024  # bytes of JSON that a payload or a result may have
YEAR = 366 * 86_400

Priority = Annotated[int, msgspec.Meta(ge=0, le=9)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
QueueName = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Delay = Annotated[float, msgspec.Meta(ge=0, le=YEAR)]
Attempts = Annotated[int, msgspec.Meta(ge=1, le=100)]
Key = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=YEAR)]
IfUnhandled = Literal["wait", "fail"]
FailureCause = Literal["attempts", "permanent", "crashes", "timeout", "payload", "unhandled"]


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What all messages here share. States, unlike messages, always show every field."""


class Backoff(Message, frozen=True, kw_only=True):
    """How long a job waits after attempt n failed: at random between 0 and a ceiling in seconds.

    The ceiling is `initial` x `factor` ** (n - 1), but at most `maximum` ("full jitter",
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """

    initial: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 1.0
    factor: Annotated[float, msgspec.Meta(ge=1, le=100)] = 2.0
    maximum: Annotated[float, msgspec.Meta(ge=0, le=YEAR)] = 300.0


class Limit(Message, frozen=True, kw_only=True):
    """At most `at_most` jobs with this `key` are processed at a time, over all workers."""

    key: Key
    at_most: Annotated[int, msgspec.Meta(ge=1, le=10_000)]


class Rate(Message, frozen=True, kw_only=True):
    """At most `at_most` jobs with this `key` begin within `per` seconds, over all workers."""

    key: Key
    at_most: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    per: Seconds = 1.0


class Rules(Message, frozen=True, kw_only=True):
    """What holds for a job beyond the usual; all of it may be left out.

    `timeout` is for an attempt and `total_timeout` for the job from its enqueueing on, in seconds.
    With `max_crashes` 3 the third worker that dies over the job quarantines it. Of jobs with the
    same `unique_key` there is one: until it is over, or for `unique_for` seconds. `tenant`s of a
    queue get their turns by weight. `if_unhandled` says what becomes of the job while no worker
    anywhere knows its name.
    """

    tenant: Key | None = None
    limit: Limit | None = None
    rate: Rate | None = None
    unique_key: Key | None = None
    unique_for: Seconds | None = None
    timeout: Seconds | None = None
    total_timeout: Seconds | None = None
    max_crashes: Attempts = 3
    if_unhandled: IfUnhandled = "wait"


class Origin(Message, frozen=True, kw_only=True):
    """What a job came from: ids of its workflow, schedule or parent job, or of the job whose input
    it runs again.
    """

    workflow: str | None = None
    schedule: str | None = None
    parent: str | None = None
    rerun_of: str | None = None


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

    `priority` 9 goes first, 0 last. `delay` is in seconds, or `run_at` the moment. `max_attempts`
    counts the first attempt.
    """

    name: Name
    payload: dict[str, Any] = {}
    queue: QueueName = "default"
    priority: Priority = 5
    delay: Delay = 0.0
    run_at: Time | None = None
    max_attempts: Attempts = 3
    backoff: Backoff = Backoff()
    tags: tuple[str, ...] = ()
    rules: Rules = Rules()
    origin: Origin | None = None


@command(SERVICE, "cancel")
class CancelJob(Message, frozen=True, kw_only=True):
    """Do not run the job, or do not wait for the attempt under way: its outcome is refused.

    With `waiting` a job that runs is left alone, and so is one that is over.
    """

    reason: str | None = None
    waiting: bool = False


@command(SERVICE, "redrive")
class RedriveJob(Message, frozen=True, kw_only=True):
    """Run a failed or cancelled job again, with new budgets of attempts and crashes."""

    reason: str | None = None


@command(SERVICE, "discard")
class DiscardJob(Message, frozen=True, kw_only=True):
    """Take a failed job off the dead letters; it stays failed."""

    reason: str | None = None


@command(SERVICE, "fail")
class FailJob(Message, frozen=True, kw_only=True):
    """The job cannot be run, or must not be any more: see `cause`."""

    error: JobError
    cause: FailureCause = "permanent"


class Moved(Message, frozen=True, kw_only=True):
    """An attempt at a job has `started`, and where it has `ended` also completed: that is what the
    event at `sequence` says.
    """

    id: str
    sequence: int
    started: Time
    ended: Time | None = None


@command(SERVICE, "settle")
class SettleJob(Message, frozen=True, kw_only=True):
    """Something happened to the job that others wait for: do what follows from its state.

    Who sends it may tell what happened, which spares looking it up.
    """

    moved: Moved | None = None


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
    expires_at: Time | None = None
    rules: Rules = Rules()
    origin: Origin | None = None


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
    """The attempt failed and another one follows at `run_at`.

    With `crash` its worker died, which spends the budget of crashes and not an attempt.
    """

    attempt: int
    error: JobError
    run_at: Time
    crash: bool = False


@event(SERVICE, "snoozed")
class JobSnoozed(Message, frozen=True, kw_only=True):
    """The handler wants to be called at `run_at`; the attempt does not count."""

    attempt: int
    run_at: Time
    reason: str


@event(SERVICE, "checkpointed")
class JobCheckpointed(Message, frozen=True, kw_only=True):
    """The handler got so far; a later attempt is given `checkpoint`."""

    attempt: int
    checkpoint: Any = None


class LogLine(Message, frozen=True, kw_only=True):
    """What a handler said, and when."""

    time: Time
    message: str
    level: str = "info"


@event(SERVICE, "logged")
class JobLogged(Message, frozen=True, kw_only=True):
    """What the handler said since the last of these; `dropped` lines were too many to keep.

    With `progress` the job has a progress under its own id from here on, which ends with it.
    """

    attempt: int
    lines: tuple[LogLine, ...] = ()
    dropped: int = 0
    progress: bool = False


@event(SERVICE, "released")
class JobReleased(Message, frozen=True, kw_only=True):
    """The worker gave the job back unfinished; the attempt does not count."""

    attempt: int
    worker: str
    item: int
    reason: str


@event(SERVICE, "completed")
class JobCompleted(Message, frozen=True, kw_only=True):
    """The handler returned `result`, or what is `stored` in the object store under that name.

    `progress` is set if the job has a progress, which ends with it.
    """

    attempt: int
    result: Any = None
    stored: str | None = None
    progress: bool = False


@event(SERVICE, "failed")
class JobFailed(Message, frozen=True, kw_only=True):
    """The attempt failed and no other one follows, because of `cause`."""

    attempt: int
    error: JobError
    cause: FailureCause = "attempts"
    progress: bool = False


@event(SERVICE, "cancelled")
class JobCancelled(Message, frozen=True, kw_only=True):
    """The job was cancelled; nothing more comes of it.

    `error` is what its handler raised, if that one's policy discards it.
    """

    reason: str | None = None
    error: JobError | None = None


@event(SERVICE, "redriven")
class JobRedriven(Message, frozen=True, kw_only=True):
    """A job that was over waits for a worker again, with new budgets."""

    reason: str | None = None


@event(SERVICE, "discarded")
class JobDiscarded(Message, frozen=True, kw_only=True):
    """Nobody wants to see the failed job among the dead letters any more."""

    reason: str | None = None


@event(SERVICE, "ready")
class JobReady(Message, frozen=True, kw_only=True):
    """A work item: the job may be run. Its envelope's cause is the event that made it so.

    Goes to the workers and is never stored among the events. `sequence` is the job's last event's:
    whoever starts the job appends after it, so that only one can. With `settle` somebody waits for
    its start and end: who starts or ends the job sends SettleJob before the item is acknowledged.
    `settle_at` tells that only one of the two matters; what is not known for sure is told.
    Without it, but with a `workflow`, who ends the job sends that AdvanceWorkflow instead.
    """

    name: str
    payload: msgspec.Raw
    attempt: int
    max_attempts: int
    backoff: Backoff
    sequence: int
    crashes: int = 0
    max_crashes: int = 3
    timeout: float | None = None
    expires_at: Time | None = None
    checkpoint: Any = None
    settle: bool = False
    workflow: str | None = None
    settle_at: Literal["both", "start", "end"] = "both"
    progress: bool = False


@event(SERVICE, "due")
class JobDue(Message, frozen=True, kw_only=True):
    """A timer: the time of the job has come, if `sequence` is still its last event's.

    Goes to the jobs service and is never stored among the events.
    """

    sequence: int


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
