"""Jobs enqueued or settled many at a time: the commands, what becomes of each. Never any logic."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from penstock.contracts.envelope import command
from penstock.contracts.errors import Problem
from penstock.contracts.job_state import State
from penstock.contracts.jobs import SERVICE, EnqueueJob, Message, Moved
from penstock.contracts.subjects import MAX_ID

MOST = 500  # jobs in one command
JobId = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID)]


class JobSpec(EnqueueJob, frozen=True, kw_only=True):
    """A job to be: what EnqueueJob tells, and its id, which is made if it has none."""

    id: str | None = None


class Enqueued(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one of many jobs: `sequence` is its last event's, or why it was refused.

    `existed`: there was such a job before, with the same name and payload, in this `state`.
    """

    id: str
    sequence: int = 0
    state: State = "pending"
    existed: bool = False
    problem: Problem | None = None


class EnqueuedJobs(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each job, in the order of the command."""

    jobs: tuple[Enqueued, ...]


@command(SERVICE, "enqueue-many")
class EnqueueJobs(Message, frozen=True, kw_only=True):
    """Enqueue up to 500 jobs, each as by EnqueueJob. The command's subject is an id for them all.

    Each of `jobs` is a JobSpec. One that is not valid is refused by itself.
    """

    outcome: ClassVar[type[msgspec.Struct]] = EnqueuedJobs

    jobs: Annotated[tuple[msgspec.Raw, ...], msgspec.Meta(max_length=MOST)]


class JobAt(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it was when the event at `sequence` was its last one."""

    id: str
    sequence: int


class Changed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one of many jobs: the sequence of its last event, or why it was refused."""

    id: str
    sequence: int = 0
    problem: Problem | None = None


class ChangedJobs(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each job, in the order of the command."""

    jobs: tuple[Changed, ...]


JobsAt = Annotated[tuple[JobAt, ...], msgspec.Meta(max_length=MOST)]


@command(SERVICE, "redrive-many")
class RedriveJobs(Message, frozen=True, kw_only=True):
    """Redrive up to 500 jobs, each as by RedriveJob. The command's subject is an id for them all.

    One that is no longer as it was at its `sequence` takes longer.
    """

    outcome: ClassVar[type[msgspec.Struct]] = ChangedJobs

    jobs: JobsAt
    reason: str | None = None


@command(SERVICE, "discard-many")
class DiscardJobs(Message, frozen=True, kw_only=True):
    """Discard up to 500 jobs, each as by DiscardJob; otherwise as RedriveJobs."""

    outcome: ClassVar[type[msgspec.Struct]] = ChangedJobs

    jobs: JobsAt
    reason: str | None = None


@command(SERVICE, "settle-many")
class SettleJobs(Message, frozen=True, kw_only=True):
    """Something happened to up to 500 jobs that others wait for: each as by SettleJob.

    The command's subject is an id for them all. What happened may be told of some of them.
    """

    jobs: Annotated[tuple[JobId, ...], msgspec.Meta(max_length=MOST)]
    moved: Annotated[tuple[Moved, ...], msgspec.Meta(max_length=MOST)] = ()
