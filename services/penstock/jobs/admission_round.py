"""Serves all who came together at the gates: see `admission`. Never offers a job to anybody.

A job that is let in is given a place at all of its gates at once. Where one of them was changed by
another instance meanwhile, they are looked at again. What a job has kept from before, such as its
place in a limit when its worker gave it back, it loses where it has to wait for another gate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from penstock.contracts.errors import Unavailable
from penstock.contracts.gates import gate_id
from penstock.contracts.job_state import JobState
from penstock.infra.deciding.aggregate import Aggregate
from penstock.jobs.admission_choice import Choice, Plan
from penstock.jobs.gate import Gate, is_ready, keeps, opens
from penstock.jobs.gate_lines import Lines
from penstock.jobs.gate_pace import Pace
from penstock.jobs.gate_round import Round
from penstock.jobs.gate_view import Waiting
from penstock.jobs.gate_wakes import Wakes
from penstock.jobs.gates import Gates
from penstock.jobs.standing import Standing

TENANT = gate_id("tenant", "")
TRIES = 30  # times that others may be quicker at the same gates

Job = Aggregate[JobState]


class Wish:
    """A job to see to, or a gate to fill, of which `places` may be known. With `asks` the job is to
    be let in.

    `fresh`: its gates are to be looked at in the log first. `done` once all that came of it is.
    """

    __slots__ = ("asks", "done", "fresh", "gate", "job", "places")

    def __init__(
        self,
        *,
        job: Job | None = None,
        gate: str = "",
        places: Gate | None = None,
        asks: bool = False,
        fresh: bool = False,
    ) -> None:
        self.job = job
        self.places = places
        self.gate = gate
        self.asks = asks
        self.fresh = fresh
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Rounds:
    """`wakes` is told when gates open at which somebody waits."""

    def __init__(
        self, places: Gates, lines: Lines, pace: Pace, standing: Standing, wakes: Wakes
    ) -> None:
        self._places = places
        self._lines = lines
        self._pace = pace
        self._choice = Choice(places, lines, pace, standing)
        self._wakes = wakes

    async def serve(self, wishes: Sequence[Wish], admitted: dict[str, Job]) -> list[Gate]:
        """See to all of them; `admitted` gets those who may be offered, by their ids.

        The gates that are wider from now on. Raises Unavailable: some may have been let in then.
        """
        again = dict[str, Waiting]()
        for _ in range(TRIES):
            plan = await self._plan(wishes, again, admitted)
            lost = await self._store(plan)
            for id, (job, own) in plan.chosen.items():
                if lost.isdisjoint(gate.id for gate in own):
                    admitted[id] = job
                    again.pop(id, None)
                    self._lines.let_in([gate.id for gate in own], job)
                else:
                    again[id] = _waiting(job)
            if not lost:
                await self._wake(plan)
                return self._learn(plan)
            await self._places.look(lost)
        raise Unavailable("Others change the same gates faster than this instance can.")

    # -- planning ----------------------------------------------------------------------------

    async def _plan(
        self, wishes: Sequence[Wish], again: dict[str, Waiting], admitted: Collection[str]
    ) -> Plan:
        now = datetime.now(UTC)
        own = [self._own(wish) for wish in wishes]
        fills = {wish.gate for wish in wishes if wish.gate}
        ids = fills | {gate.id for some in own for gate in some}
        await self._places.know(ids | {gate for one in again.values() for gate in one.gates})
        await self._places.look(self._doubtful(wishes, own, now))
        plan = Plan(Round(self._places.state, now), fills, list(again.values()))
        for wish, some in zip(wishes, own, strict=True):
            plan.concern(some)
            if wish.job is not None:
                self._see_to(wish, wish.job, some, plan)
        await self._choice.make(plan, admitted)
        return plan

    def _own(self, wish: Wish) -> list[Gate]:
        if wish.job is not None:
            return self._choice.gates(wish.job.state)
        return [wish.places] if wish.places else []

    def _doubtful(
        self, wishes: Sequence[Wish], own: Sequence[list[Gate]], now: datetime
    ) -> set[str]:
        """Gates that another instance may have changed in what matters here."""
        doubtful = set[str]()
        for wish, some in zip(wishes, own, strict=True):
            job = wish.job
            if job is None or job.state is None:
                continue
            for gate in some:
                state = self._places.state(gate.id)
                has = state is not None and job.id in state.holders
                if wish.asks:
                    is_doubtful = has or wish.fresh
                else:
                    due = gate.until == "end" or job.state.state == "processing"
                    is_doubtful = not has and due and not keeps(job.state, gate, now)
                if is_doubtful:
                    doubtful.add(gate.id)
        return doubtful

    def _see_to(self, wish: Wish, job: Job, own: Sequence[Gate], plan: Plan) -> None:
        """Free what the job does not need, or let it go on if it has all that it needs."""
        state, round = job.state, plan.round
        for gate in own:
            assert state is not None
            if not keeps(state, gate, round.now):
                round.free(gate, job.id, state.started)
        if wish.gate:
            round.free(Gate(wish.gate, 0, "end"), job.id)
        if state is None or not wish.asks or not is_ready(state, round.now):
            return
        has = [round.has(gate.id, job.id) for gate in own]
        if all(has):
            plan.chosen[job.id] = job, own
            return
        self._lines.add([gate.id for gate in own], job)
        if any(has):
            plan.first.append(_waiting(job))

    def _learn(self, plan: Plan) -> list[Gate]:
        """See how much of the tenants' windows had begun when they were filled again."""
        windows = {
            gate.id: (gate, job.state)
            for job, own in plan.chosen.values()
            for gate in own
            if job.state and gate.id.startswith(TENANT)
        }
        for id, (gate, state) in windows.items():
            left, tenant = plan.round.left(id), state.rules.tenant
            if left is not None and tenant is not None:
                self._pace.filled(state.queue, tenant, gate, left)
        return self._pace.adapt()

    async def _wake(self, plan: Plan) -> None:
        """Those that open by themselves are to be filled then."""
        now = datetime.now(UTC)
        for gate in plan.closed.values():
            moment = opens(self._places.state(gate.id), gate, now) if gate.per else None
            if moment is not None:
                await self._wakes.at(gate.id, moment)

    # -- storing -----------------------------------------------------------------------------

    async def _store(self, plan: Plan) -> set[str]:
        """Store what happens at each gate; those that others have changed meanwhile.

        What somebody is let in through is stored together, so that nobody has a place at one gate
        and none at another.
        """
        changes = plan.round.changes()
        what = {id: (event, _flow(id, jobs, plan)) for id, (event, jobs) in changes.items()}
        ways = [[gate.id for gate in own] for _, own in plan.chosen.values()]
        groups = [
            {id: what[id] for id in group}
            for group in linked(what, [w for w in ways if len(w) > 1])
        ]
        done = await asyncio.gather(*(self._places.store(g, plan.round.now) for g in groups))
        return {
            id for group, stored in zip(groups, done, strict=True) if not stored for id in group
        }


def _waiting(job: Job) -> Waiting:
    assert job.state is not None
    return Waiting.of(job.state, job.sequence)


def _flow(gate: str, jobs: Collection[str], plan: Plan) -> str:
    """The flow of the one job that it is about; what is about many belongs to none."""
    if len(jobs) == 1 and (chosen := plan.chosen.get(next(iter(jobs)))):
        state = chosen[0].state
        return state.correlationid if state else gate
    return gate


def linked(ids: Collection[str], ways: Sequence[Sequence[str]]) -> list[list[str]]:
    """The ids in groups: two are in the same one if a way leads from one to the other."""
    group_of = {id: [id] for id in ids}
    for way in ways:
        groups = [group_of[id] for id in way if id in group_of]
        for group in groups[1:]:
            if group is not (first := group_of[groups[0][0]]):
                first += group
                group_of |= dict.fromkeys(group, first)
    return list({id(group): group for group in group_of.values()}.values())
