"""The single jobs of a command that enqueues many, and what became of each. Never enqueues any."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from penstock.contracts.answers import Outcome
from penstock.contracts.envelope import invalid
from penstock.contracts.errors import InvalidMessage
from penstock.contracts.jobs import EnqueueJob
from penstock.contracts.jobs_bulk import Enqueued, EnqueueJobs
from penstock.contracts.subjects import token


class One(msgspec.Struct, frozen=True):
    """A job, as the command that it would be by itself, whose id is `key`."""

    id: str
    key: str
    command: EnqueueJob


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
                raise InvalidMessage(f"{id!r} is the id of all these jobs together; use another.")
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
