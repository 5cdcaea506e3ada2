"""Which job a work item is of, and whether it is what lets that job go on. Never changes anything.

An item lets a job go on if it was made for the job's last event, or is the one that a worker holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from penstock.contracts.envelope import decode, unwrap
from penstock.contracts.errors import InvalidMessage
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import (
    SERVICE,
    JobCancelled,
    JobCheckpointed,
    JobCompleted,
    JobDiscarded,
    JobFailed,
    JobLogged,
    JobReady,
    JobReleased,
    JobStarted,
)
from penstock.contracts.lifecycle import Archived, Erased
from penstock.contracts.subjects import untoken
from penstock.infra.bus import Bus, Stored
from penstock.infra.deciding.aggregate import Aggregate
from penstock.infra.deciding.decider import Load
from penstock.infra.event_log import EventLog, Recorded
from penstock.infra.last_messages import LastMessages

Over = JobCompleted | JobFailed | JobCancelled | JobDiscarded | Erased | Archived


class Settled:
    """Which of several items no job needs any more; see `Clearing`."""

    def __init__(self, bus: Bus, event_log: EventLog, load: Load[Any]) -> None:
        self._event = bus.subjects.event
        self._last = LastMessages(bus, bus.subjects.event_stream(SERVICE))
        self._log = event_log
        self._load = load

    async def __call__(self, items: Sequence[Stored]) -> set[int]:
        """Their sequences. Raises Unavailable."""
        jobs = {item.sequence: job_of(item) for item in items}
        last = await self._last.of(*{self._event(SERVICE, job) for job in jobs.values()})
        return {item.sequence for item in items if await self._is_settled(item, last)}

    async def _is_settled(self, item: Stored, last: Mapping[str, Stored]) -> bool:
        id = job_of(item)
        event = last.get(self._event(SERVICE, id))
        if event is None or isinstance(unwrap(decode(event.data)), Over):
            return True
        job = await self._load(id)
        if not isinstance(job.state, JobState) or job.state.is_over:
            return True
        return not is_of(item, job.sequence, standing(await history_of(job, self._log)))


def job_of(item: Stored) -> str:
    """The id of its job."""
    return untoken(item.subject.rpartition(".")[2])


async def history_of(job: Aggregate[JobState], event_log: EventLog) -> Sequence[Recorded]:
    """What of the job's events tells who has it. Raises Unavailable."""
    assert job.state is not None and job.last is not None
    if job.state.state == "processing":
        return (await event_log.load(job.state.id)).events
    return (Recorded(job.sequence, job.last),)


def standing(events: Sequence[Recorded]) -> msgspec.Struct | None:
    """The event that says who has the job; what its handler said since changes nothing there."""
    for record in reversed(events):
        data: msgspec.Struct = unwrap(record.event)
        if not isinstance(data, JobLogged | JobCheckpointed):
            return data
    return None


def is_of(item: Stored, sequence: int, who: msgspec.Struct | None) -> bool:
    """Whether `item` lets the job go on whose last event is at `sequence`; see `standing`."""
    match who:
        case JobStarted(item=held) | JobReleased(item=held) if held == item.sequence:
            return True
        case _:
            return _made_for(item) == sequence


def _made_for(item: Stored) -> int:
    """The sequence of the event that it was made for; 0 if it is none."""
    try:
        ready: msgspec.Struct = unwrap(decode(item.data))
    except InvalidMessage:
        return 0
    return ready.sequence if isinstance(ready, JobReady) else 0
