"""How jobs at gates stand, by their last events: many are asked for in one request. Never decides.

What was known of a job before spares reading its history, where its last event tells enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from penstock.contracts.envelope import Envelope, decode, unwrap
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import (
    SERVICE,
    JobCancelled,
    JobCompleted,
    JobFailed,
    JobRetrying,
    JobSnoozed,
    JobStarted,
    Moved,
)
from penstock.infra.bus import Bus, Stored
from penstock.infra.deciding.aggregate import Aggregate
from penstock.infra.deciding.decider import Load
from penstock.infra.last_messages import LastMessages
from penstock.jobs.gate_view import Waiting
from penstock.jobs.job_evolve import evolve

TOGETHER = 500  # jobs asked for in one request
# After these it is neither offered nor told of to a workflow: what came between changes nothing.
TELLING = JobStarted | JobRetrying | JobSnoozed | JobCompleted | JobFailed | JobCancelled

Job = Aggregate[JobState]


class Standing:
    """`known` gives a job as it was when it was let in here, `load` as its events tell."""

    def __init__(self, bus: Bus, known: Callable[[str], Job | None], load: Load[Any]) -> None:
        self._bus = bus
        self._known = known
        self._load = load
        self._last = LastMessages(bus, bus.subjects.event_stream(SERVICE))

    def moved(self, what: Moved) -> Job | None:
        """The job after what somebody tells of it, if that needs no look into the log.

        It was let in here, and that is not undone meanwhile: `Gates` tells of those whom others
        let in. If others do it later, what is stored upon this state is refused.
        """
        known = self._known(what.id)
        if known is None or known.state is None or what.sequence <= known.sequence:
            return None
        state = known.state
        if state.expires_at is not None or (state.origin and state.origin.workflow):
            return None  # more follows from it than what becomes of its places
        now = "completed" if what.ended else "processing"
        return Aggregate(
            known.id,
            replace(state, state=now, started=what.started, ended=what.ended, run_at=None),
            sequence=what.sequence,
        )

    async def job(self, id: str) -> Job:
        """The job as it stands, as far as gates are concerned. Raises Unavailable."""
        known = self._known(id)
        if known is None or known.state is None:
            return await self._load(id)
        subject = self._bus.subjects.event(SERVICE, id)
        last = (await self._last.of(subject)).get(subject)
        return _now(known, known.state, last) or await self._load(id)

    async def those(self, waiting: Sequence[Waiting]) -> dict[str, Job]:
        """Each of these as it stands; those that are gone have no state. Raises Unavailable."""
        found = dict[str, Job]()
        for n in range(0, len(waiting), TOGETHER):
            part = waiting[n : n + TOGETHER]
            subjects = {one.job: self._bus.subjects.event(SERVICE, one.job) for one in part}
            last = await self._last.of(*subjects.values())
            for one in part:
                stored = last.get(subjects[one.job])
                found[one.job] = _unchanged(one, stored) or await self._load(one.job)
        return found


def _unchanged(one: Waiting, stored: Stored | None) -> Job | None:
    if stored is None or stored.sequence != one.sequence or not one.is_whole:
        return None
    return _at(one.job, one.state, stored, decode(stored.data))


def _now(known: Job, state: JobState, stored: Stored | None) -> Job | None:
    """The job at its last event; None if that does not tell enough."""
    if stored is None or stored.sequence < known.sequence:
        return None
    if stored.sequence == known.sequence:
        return known
    last = decode(stored.data)
    data = unwrap(last)
    if not isinstance(data, TELLING) or (state.origin and state.origin.workflow):
        return None
    if last.version > known.version + 1:  # it began meanwhile, nobody looked when
        state = replace(state, started=last.time)
    return _at(known.id, evolve(state, data, last), stored, last)


def _at(id: str, state: JobState, stored: Stored, last: Envelope) -> Job:
    return Aggregate(id, state, last.version, stored.sequence, last=last)
