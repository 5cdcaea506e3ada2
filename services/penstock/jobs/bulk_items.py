"""The single jobs of a command that enqueues many: each as the command that it would be by itself,
and what became of it. Never decides and never stores.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from penstock.contracts.envelope import Envelope, invalid, type_of, wrap
from penstock.contracts.errors import InvalidMessage
from penstock.contracts.jobs import EnqueueJob, Origin
from penstock.contracts.jobs_bulk import Enqueued
from penstock.contracts.subjects import token
from penstock.infra.deciding.aggregate import Aggregate
from penstock.jobs.domain import State


class _Id(msgspec.Struct, frozen=True):
    """What a JobSpec has beyond an EnqueueJob."""

    id: str | None = None


_decode = msgspec.json.Decoder(EnqueueJob).decode
_decode_id = msgspec.json.Decoder(_Id).decode
_ENQUEUE = str(type_of(EnqueueJob))


class Item(msgspec.Struct):
    """One job of many."""

    command: Envelope
    data: EnqueueJob
    event: Envelope | None = None
    state: State | None = None
    enqueued: Enqueued | None = None


def item_of(command: Envelope, raw: msgspec.Raw, index: int) -> Item | Enqueued:
    """What one job would be as a command by itself, or why it is none."""
    this = f"{command.id}-{index}"
    try:
        data = _decode(raw)
        given = _decode_id(raw).id
        id = this if given is None else given
        if id == command.subject:
            raise InvalidMessage(f"{id!r} is the id of all these jobs together; use another one.")
        token(id)
    except msgspec.DecodeError as error:
        refusal = invalid(error, "The job", root=f"$.jobs[{index}]")
        return Enqueued(id=this, problem=refusal.problem())
    except InvalidMessage as refusal:
        return Enqueued(id=id, problem=refusal.problem())
    return Item(own_command(command, this, id, raw), data)


def own_command(command: Envelope, key: str, id: str, data: msgspec.Raw) -> Envelope:
    """The command that one job of many would be by itself."""
    return replace(command, id=key, subject=id, type=_ENQUEUE, data=data)


def is_asking_nobody(data: EnqueueJob) -> bool:
    """Whether nothing beside the job itself has to be looked at before it is stored."""
    usual = data.origin is None or data.origin == Origin(workflow=data.origin.workflow)
    return usual and data.rules.unique_key is None


def event_of(command: Envelope, data: msgspec.Struct, now: datetime) -> Envelope:
    """The first event of a job, by the command that it would be by itself."""
    return wrap(
        data,
        id=f"{command.id}:1",
        subject=command.subject,
        time=now,
        correlationid=command.correlationid,
        cause=command,
        actor=command.actor,
        version=1,
        traceparent=command.traceparent,
    )


def aggregate_of(item: Item, sequence: int) -> Aggregate[Any]:
    """The job as it is once its first event stands at `sequence`."""
    return Aggregate(item.command.subject, item.state, 1, sequence, last=item.event)


def first_of_each(items: Sequence[Item]) -> list[Item]:
    """Without those whose id is another's before: these come to a job that is there."""
    return list({item.command.subject: item for item in reversed(items)}.values())[::-1]
