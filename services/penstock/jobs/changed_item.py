"""One of many jobs that are changed together, by a command that each would have by itself. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from penstock.contracts.envelope import Envelope, type_of, wrap
from penstock.contracts.errors import InvalidMessage, PenstockError
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import CancelJob, DiscardJob, RedriveJob
from penstock.contracts.jobs_bulk import Changed, JobAt
from penstock.contracts.subjects import token
from penstock.infra.deciding.aggregate import Aggregate
from penstock.infra.deciding.decider import Context
from penstock.jobs.dispatch import is_plain
from penstock.jobs.domain import decide, evolve

Each = RedriveJob | DiscardJob | CancelJob

_encode = msgspec.json.Encoder().encode


class Item(msgspec.Struct):
    """The command that it would be by itself, and what became of it.

    `sequence` is where the caller saw the job, None if nobody did. If it can go with others it has
    an `event` to come behind the one at `before`, is as `after` then, and comes to be `stored` at a
    sequence.
    """

    command: Envelope
    sequence: int | None
    before: int = 0
    event: Envelope | None = None
    after: Aggregate[Any] | None = None
    stored: int = 0
    changed: Changed | None = None


def item_of(command: Envelope, job: JobAt, index: int, each: Each) -> Item | Changed:
    """What one job's change would be as a command by itself."""
    try:
        token(job.id)
        if job.id == command.subject:
            raise InvalidMessage(
                f"{job.id!r} is the id of all these jobs together; use another one."
            )
    except InvalidMessage as refusal:
        return Changed(id=job.id, problem=refusal.problem())
    itself = replace(
        command,
        id=f"{command.id}-{index}",
        subject=job.id,
        type=str(type_of(type(each))),
        data=msgspec.Raw(_encode(each)),
    )
    return Item(itself, job.sequence)


def first_of_each(items: Sequence[Item]) -> list[Item]:
    """Without those whose id is another's before."""
    return list({item.command.subject: item for item in reversed(items)}.values())[::-1]


def decide_on(item: Item, job: Aggregate[Any], each: Each, now: datetime) -> None:
    """Give the item its event, or what it became without one."""
    command = item.command
    try:
        events = decide(job.state, each, Context(now, command))
    except PenstockError as refusal:
        item.changed = Changed(id=job.id, problem=refusal.problem())
        return
    if not events:
        if item.sequence is not None:  # else what follows may have been left undone
            item.changed = Changed(id=job.id, sequence=job.sequence)
        return
    [data] = events
    event = wrap(
        data,
        id=f"{command.id}:1",
        subject=job.id,
        time=now,
        correlationid=command.correlationid,
        cause=command,
        actor=command.actor,
        version=job.version + 1,
        traceparent=command.traceparent,
    )
    after = evolve(job.state, data, event)
    if isinstance(after, JobState) and (after.is_over or is_plain(after)):
        item.event, item.before = event, job.sequence
        item.after = Aggregate(job.id, after, event.version, last=event)
