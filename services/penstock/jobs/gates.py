"""Places at gates: taken and freed by events, each stored on the state that it was decided upon.

So instances that race cannot give out a place twice, and a place is taken or freed once however
often it is asked for. Never decides who is next: that is `admission`.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any

from penstock.contracts.envelope import Envelope, encode, wrap
from penstock.contracts.errors import Conflict, Unavailable
from penstock.contracts.gates import GateState, PlaceFreed, PlaceTaken
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import SERVICE, JobDue
from penstock.infra.bus import Bus
from penstock.infra.deciding.aggregate import Aggregate, Folder
from penstock.infra.deciding.decider import Load
from penstock.infra.event_log import EventLog, Recorded
from penstock.infra.keyed_locks import KeyedLocks
from penstock.infra.timers import Timers
from penstock.jobs.gate import Event, Gate, evolve, opens

TRIES = 30
REMEMBERED = 5_000  # gates
LOADED_ANEW = 500  # events after which one is loaded, which takes a snapshot of it

Job = Aggregate[JobState]


class Gates:
    """What is in memory may be behind the log: what is stored upon it is then refused, and looked
    at again.
    """

    def __init__(self, bus: Bus, event_log: EventLog, load: Load[Any]) -> None:
        self._log = event_log
        self._load = load
        self._timers = Timers(bus, SERVICE)
        self._folder: Folder[Any] = Folder(evolve)  # type: ignore[arg-type]
        self._known: OrderedDict[str, Aggregate[Any]] = OrderedDict()
        self._wakes: dict[str, datetime] = {}
        self._locks = KeyedLocks()

    async def take(self, gate: Gate, job: Job, *, fresh: bool = False) -> bool:
        """Take a place for the job, unless it has one; whether it has one now.

        If the gate opens at a moment, its timer is set. `fresh`: look at the log first. Raises
        Unavailable.
        """
        async with self._locks.of(gate.id):
            for _ in range(TRIES):
                known = await self._present(gate.id, fresh=fresh)
                if known.state and job.id in known.state.holders:
                    if fresh:
                        return True
                    fresh = True  # another instance may have freed it since
                    continue
                now = datetime.now(UTC)
                moment = opens(known.state, gate, now)
                if moment is None:
                    return False
                if moment > now:
                    await self._wake(gate, moment, job)
                    return False
                kept = gate.capacity if gate.per else 0
                if await self._store(known, PlaceTaken(job=job.id, kept=kept), job, now):
                    return True
                fresh = True
        raise Unavailable(f"Others take the places of {gate.id!r} faster than this one can.")

    async def free(self, gate: str, job: Job, *, look: bool) -> bool:
        """Free the place of the job; whether it had one, as far as is known here.

        `look` for it in the log as well: another instance may have given it.
        """
        async with self._locks.of(gate):
            fresh = False
            for _ in range(TRIES):
                known = await self._present(gate, fresh=fresh)
                if not known.state or job.id not in known.state.holders:
                    if fresh or not look:
                        return False
                    fresh = True
                    continue
                fresh = True
                if await self._store(known, PlaceFreed(job=job.id), job, datetime.now(UTC)):
                    return True
        raise Unavailable(f"Others free the places of {gate!r} faster than this one can.")

    async def state(self, gate: str, *, fresh: bool = False) -> GateState | None:
        """As it is known here, or in the log."""
        known = await self._present(gate, fresh=fresh)
        return known.state if isinstance(known.state, GateState) else None

    # -- the log -----------------------------------------------------------------------------

    async def _present(self, id: str, *, fresh: bool = False) -> Aggregate[Any]:
        known = self._known.pop(id, None)
        if known is None or known.version % LOADED_ANEW == LOADED_ANEW - 1:
            known = await self._load(id)
        elif fresh:
            loaded = await self._log.load(id, after=known.sequence)
            known = self._folder.fold(known, loaded.events)
        self._remember(known)
        return known

    def _remember(self, known: Aggregate[Any]) -> None:
        self._known[known.id] = known
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    async def _store(self, known: Aggregate[Any], event: Event, job: Job, now: datetime) -> bool:
        """Store the event behind the state that is known; False if that is not the latest."""
        envelope = _event(known, event, job, now)
        try:
            appended = await self._log.append([envelope], expected=known.sequence)
        except Conflict:
            return False
        if appended.again:
            return False
        self._remember(self._folder.fold(known, [Recorded(appended.sequence, envelope)]))
        return True

    async def _wake(self, gate: Gate, moment: datetime, job: Job) -> None:
        """Set the timer at which the gate opens."""
        if (set_for := self._wakes.get(gate.id)) and datetime.now(UTC) < set_for <= moment:
            return
        due = wrap(
            JobDue(sequence=0),
            id=f"{gate.id}:{moment.isoformat()}",
            subject=gate.id,
            time=moment,
            correlationid=job.last.correlationid if job.last else gate.id,
        )
        await self._timers.set(gate.id, moment, encode(due))
        if len(self._wakes) > REMEMBERED:
            self._wakes.clear()
        self._wakes[gate.id] = moment


def _event(known: Aggregate[Any], event: Event, job: Job, now: datetime) -> Envelope:
    assert job.last is not None
    kind = type(event).__name__
    return wrap(
        event,
        id=f"{known.id}:{known.version + 1}:{job.id}:{kind}",
        subject=known.id,
        time=now,
        correlationid=job.last.correlationid,
        cause=job.last,
        actor=job.last.actor,
        version=known.version + 1,
        traceparent=job.last.traceparent,
    )
