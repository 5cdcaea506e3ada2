"""Jobs: what can be asked about many of them, and the answers. Never any logic."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from penstock.contracts.answers import Question
from penstock.contracts.envelope import Time
from penstock.contracts.job_state import State
from penstock.contracts.jobs import FailureCause, JobError
from penstock.contracts.workers import RunningJob

Page = Annotated[int, msgspec.Meta(ge=1, le=1000)]


class ListJobs(Question, frozen=True, kw_only=True, omit_defaults=True):
    """Jobs, newest first; `before` is the id of the last one of the page before.

    A page of large jobs has fewer than `limit`; the list is at its end when a page is empty.
    `since` and `until` bound when they were enqueued; `workflow`, `schedule`, `parent` and
    `rerun_of` are ids of what they came from.
    """

    state: State | None = None
    queue: str | None = None
    name: str | None = None
    tag: str | None = None
    workflow: str | None = None
    schedule: str | None = None
    parent: str | None = None
    rerun_of: str | None = None
    since: Time | None = None
    until: Time | None = None
    limit: Page = 100
    before: str | None = None


class ListDead(Question, frozen=True, kw_only=True, omit_defaults=True):
    """Jobs that failed and were not discarded, newest first; `before` as in ListJobs.

    `error` is the class of the last error, such as `ValueError`.
    """

    error: str | None = None
    name: str | None = None
    queue: str | None = None
    cause: FailureCause | None = None
    limit: Page = 100
    before: str | None = None


class DeadCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many dead letters there are of one class of error, and of when they were enqueued."""

    error: str
    count: int
    oldest: Time
    newest: Time


class QueueDepth(msgspec.Struct, frozen=True, kw_only=True):
    """The jobs of one queue and priority: `waiting` for a worker, `delayed` until their time
    (retries too), `processing` now. `retrying` are those of the first two that failed before.
    """

    queue: str
    priority: int
    waiting: int
    delayed: int
    processing: int
    retrying: int = 0


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """How long `count` of them took, in seconds, each to within 10 percent."""

    count: int
    p50: float
    p90: float
    p99: float


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """How many a second, over some minutes."""

    minutes: int
    enqueued: float
    completed: float
    failed: float


class AskMetrics(Question, frozen=True, kw_only=True, omit_defaults=True):
    """How queues do; `minutes` are those that the latencies are of, the present one included."""

    queue: str | None = None
    minutes: Annotated[int, msgspec.Meta(ge=1, le=1440)] = 15


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """How one queue does, or with `name` those of its jobs. `oldest` is for how many seconds the
    job that waits longest could have been run; None where none waits, and for a name.

    `wait` is from when a job could be run to its start, `run` from the start of an attempt to its
    end.
    """

    queue: str
    name: str | None = None
    waiting: int
    delayed: int
    retrying: int
    processing: int
    oldest: float | None = None
    rates: tuple[Rates, ...]
    wait: Latency | None = None
    run: Latency | None = None


class AskStats(Question, frozen=True, kw_only=True, omit_defaults=True):
    """How many jobs there were in each state `at` a stream sequence or a time; without it, now."""

    at: str | None = None
    queue: str | None = None
    name: str | None = None


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """The jobs of one queue and name, by state."""

    queue: str
    name: str
    pending: int = 0
    retrying: int = 0
    processing: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """`counts` at the end of the second (minute, hour) that begins `at`; now if that is None.

    `exact_to` is how many seconds that is: seconds are kept for two days, minutes for a month and
    hours for a year. With `sequence` they are those right after the event there, in the second
    `at`, and `exact_to` is 0. `total` is over all of `counts`, which have archived jobs in them.
    """

    at: Time | None
    exact_to: int
    sequence: int | None = None
    total: Count
    counts: tuple[Count, ...]


class WorkerSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as its last sign of life told, `silent` seconds ago: lost after ten of them."""

    name: str
    status: Literal["working", "draining", "stopped", "lost"]
    silent: float
    host: str
    pid: int
    started: Time
    penstock: str
    version: str | None
    queues: tuple[str, ...]
    concurrency: int
    lease: float
    problem: str | None
    jobs: int
    handlers: tuple[str, ...]
    running: tuple[RunningJob, ...]


class HandlerSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A name of jobs: the `workers` that can do them, and how many wait.

    Without workers nobody can, and they wait. `payloads` are the workers' different JSON Schemas.
    """

    name: str
    workers: tuple[str, ...]
    lanes: tuple[str, ...]
    payloads: tuple[dict[str, Any], ...]
    waiting: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a job; `seconds` is how long its last attempt took."""

    id: str
    state: State
    attempts: int
    crashes: int
    seconds: float | None
    error: JobError | None
    result: Any


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What two results have at a `path` such as `$.rows[3]`; None also where there is nothing."""

    path: str
    one: Any
    other: Any


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two jobs beside each other. `differences` are the first hundred of their results."""

    one: Outcome
    other: Outcome
    same: bool
    differences: tuple[Difference, ...]


class AskEstimate(Question, frozen=True, kw_only=True, omit_defaults=True):
    """When a job may be expected to start and to end."""

    id: str


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """When the job is expected to start and end: at `ends`, or with 9 of 10 at `ends_by`.

    `ahead` jobs of its queue go before it. From `history` attempts of the same name; `unknown` says
    what is missing where a time is None.
    """

    id: str
    state: State
    ahead: int = 0
    starts: Time | None = None
    ends: Time | None = None
    ends_by: Time | None = None
    history: int = 0
    unknown: str | None = None
