"""Who may be offered to workers: jobs that have a place at each of their gates. Never offers any.

A job whose gate is full waits in the view, which costs nothing; when a place is freed the next one
takes it, the highest priority first, then the oldest. What is lost on the way, since an instance
died between freeing and taking or since the view was behind, is found by `admission_sweep`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import CancelJob
from penstock.infra.bus import Bus
from penstock.infra.deciding.decider import Load
from penstock.infra.keyed_locks import KeyedLocks
from penstock.infra.sender import Cause, Sender
from penstock.infra.views.live_view import LiveView
from penstock.jobs import gate_view
from penstock.jobs.gate import gates, is_gated, is_ready, keeps
from penstock.jobs.gate_view import Waiting
from penstock.jobs.gates import Gates, Job
from penstock.jobs.queue_states import QueueStates
from penstock.jobs.unique import UniqueKeys

PAGE = 50  # of those that wait, looked at together
ROUNDS = 20  # pages at a time; the sweep goes on with the rest
REMEMBERED = 50_000  # jobs that were let in lately


class Admission:
    """`load` is the service's own, `model` gives its view."""

    def __init__(
        self,
        bus: Bus,
        places: Gates,
        states: QueueStates,
        unique: UniqueKeys,
        load: Load[Any],
        model: Callable[[], LiveView[Any]],
    ) -> None:
        self._sender = Sender(bus)
        self._unique = unique
        self._places = places
        self._states = states
        self._load = load
        self._model = model
        self._let_in: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._locks = KeyedLocks()

    async def is_wanted(self, job: Job) -> bool:
        """Whether the job has its unique key; one that lost it to another job is cancelled."""
        state, last = job.state, job.last
        if state is None or last is None or state.rules.unique_key is None:
            return True
        if state.state not in ("pending", "retrying"):
            return True
        other = await self._unique.claim(state, self._load)
        if other is None:
            return True
        await self._sender.post(
            CancelJob(reason=str(other)),
            id=job.id,
            command_id=f"{job.id}:{job.sequence}:duplicate",
            cause=Cause(correlationid=last.correlationid, event=last, actor=last.actor),
        )
        return False

    async def admits(self, job: Job, *, fresh: bool = False) -> bool:
        """Take the places that a ready job needs; whether it has them all. See `Gates.take`."""
        assert job.state is not None
        if not is_gated(job.state.rules):
            return True
        for gate in gates(job.state, self._states.weight):
            if not await self._places.take(gate, job, fresh=fresh):
                return False
            self._note(gate.id, job)
        return True

    async def freed_by(self, job: Job) -> list[Job]:
        """Free what the job needs no longer; the others that may be offered now."""
        if job.state is None or not is_gated(job.state.rules):
            return []
        now, admitted = datetime.now(UTC), list[Job]()
        for gate in gates(job.state, self._states.weight):
            if keeps(job.state, gate, now):
                continue
            look = gate.until == "end" or job.state.state == "processing"
            if await self._places.free(gate.id, job, look=look):
                admitted += await self.fill(gate.id, gate.capacity)
        return admitted

    async def fill(self, gate: str, capacity: int | None = None) -> list[Job]:
        """Give the free places of a gate to those that wait; these, if they have all they need.

        If it has so many as are known to be its `capacity`, nobody is looked for.
        """
        admitted = list[Job]()
        async with self._locks.of(gate):
            for _ in range(ROUNDS):
                if await self._is_full(gate, capacity):
                    return admitted
                _, page = await self._model().read(gate_view.next_at, gate, PAGE)
                waiting = [one for one in page if not self._is_old(gate, one)]
                for one in waiting:
                    if await self._is_full(gate, capacity):
                        return admitted
                    job = await self._load(one.job)
                    if job.sequence > one.sequence:
                        self._note(gate, job)  # the view is behind, and will tell of it again
                    if await self._is_full_for(gate, job, admitted):
                        return admitted
                if len(page) < PAGE:
                    return admitted
        return admitted

    async def _is_full(self, gate: str, capacity: int | None) -> bool:
        if capacity is None:
            return False
        state = await self._places.state(gate)
        return state is not None and len(state.holders) >= capacity

    async def _is_full_for(self, gate: str, job: Job, admitted: list[Job]) -> bool:
        """Let the job through if it still waits; whether there is no place for it."""
        if not isinstance(job.state, JobState) or not is_ready(job.state, datetime.now(UTC)):
            return False
        if await self.admits(job):
            admitted.append(job)
            return False
        state = await self._places.state(gate)
        return state is None or job.id not in state.holders

    def _note(self, gate: str, job: Job) -> None:
        """As it is now the job is not to be let through this gate once more."""
        self._let_in[gate, job.id] = job.sequence
        self._let_in.move_to_end((gate, job.id))
        if len(self._let_in) > REMEMBERED:
            self._let_in.popitem(last=False)

    def _is_old(self, gate: str, one: Waiting) -> bool:
        return self._let_in.get((gate, one.job), -1) >= one.sequence

    # -- what was lost -----------------------------------------------------------------------

    async def free_if_over(self, gate: str, id: str) -> bool:
        """Free a place whose job needs it no longer, as the log tells; whether it was freed."""
        job = await self._load(id)
        state = job.state if isinstance(job.state, JobState) else None
        now = datetime.now(UTC)
        own = gates(state, self._states.weight) if state else []
        if any(one.id == gate and keeps(state, one, now) for one in own):
            return False
        self._let_in.pop((gate, id), None)
        return await self._places.free(gate, job, look=True)
