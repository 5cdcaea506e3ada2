"""The single jobs of a command that enqueues many, and what became of each. Never enqueues any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from penstock.contracts.answers import Outcome
from penstock.contracts.envelope import invalid
from penstock.contracts.errors import InvalidMessage
from penstock.contracts.jobs import DiscardJob, EnqueueJob, RedriveJob
from penstock.contracts.jobs_bulk import Changed, DiscardJobs, Enqueued, EnqueueJobs, RedriveJobs
from penstock.contracts.subjects import token


class One(msgspec.Struct, frozen=True):
    """A job, as the command that it would be by itself, whose id is `key`."""

    id: str
    key: str
    command: EnqueueJob | RedriveJob | DiscardJob


class _Id(msgspec.Struct, frozen=True):
    id: str | None = None


def jobs_of(command: EnqueueJobs, subject: str, key: str) -> Iterator[One | Enqueued]:
    """Each job in its place, or why it cannot be one."""
    for index, raw in enumerate(command.jobs):
        this = f"{key}-{index}"
        try:
            data = msgspec.json.decode(raw, type=EnqueueJob)
            id = msgspec.json.decode(raw, type=_Id).id or this
            if id == subject:
                raise InvalidMessage(_of_all(id))
            token(id)
            yield One(id, this, data)
        except msgspec.DecodeError as error:
            refusal = invalid(error, "The job", root=f"$.jobs[{index}]")
            yield Enqueued(id=this, problem=refusal.problem())
        except InvalidMessage as refusal:
            yield Enqueued(id=this, problem=refusal.problem())


def became(id: str, outcome: Outcome, *, existed: bool) -> Enqueued:
    """What became of one by its outcome."""
    if outcome.problem is not None:
        return Enqueued(id=id, problem=outcome.problem)
    state = msgspec.json.decode(outcome.data)["state"]
    return Enqueued(id=id, sequence=outcome.sequence, state=state, existed=existed)


def changes_of(
    command: RedriveJobs | DiscardJobs, subject: str, key: str
) -> Iterator[One | Changed]:
    """Each job's change in its place, or why it cannot be one."""
    kind = RedriveJob if isinstance(command, RedriveJobs) else DiscardJob
    for index, job in enumerate(command.jobs):
        try:
            token(job.id)
            if job.id == subject:
                raise InvalidMessage(_of_all(job.id))
            yield One(job.id, f"{key}-{index}", kind(reason=command.reason))
        except InvalidMessage as refusal:
            yield Changed(id=job.id, problem=refusal.problem())


def answered(
    key: str, jobs: Sequence[Enqueued] | Sequence[Changed], answer: type[msgspec.Struct]
) -> Outcome:
    """The outcome of the whole command."""
    sequence = max((one.sequence for one in jobs), default=0)
    body = msgspec.json.encode(answer(jobs=tuple(jobs)))
    return Outcome(id=key, sequence=sequence, data=msgspec.Raw(body))


def _of_all(id: str) -> str:
    return f"{id!r} is the id of all these jobs together; use another one."
