"""Serves all who came together at the gates: see `admission`. Never offers a job to anybody.

A job that is let in is given a place at all of its gates at once. Where one of them was changed by
another instance meanwhile, they are looked at again. What a job has kept from before, such as its
place in a limit when its worker gave it back, it loses where it has to wait for another gate.

A place is freed only for what is known of its job no earlier than what is known of its gate. Who
lets a job in stores that there, also if it had the place from before: so one that was over, and
goes on elsewhere meanwhile, does not lose its place by what it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from penstock.contracts.errors import Unavailable
from penstock.contracts.gates import gate_id
from penstock.contracts.job_state import JobState
from penstock.infra.deciding.aggregate import Aggregate
from penstock.jobs.admission_choice import Choice, Plan, waits
from penstock.jobs.admission_wish import Wish, undone
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
A = TypeVar("A")
B = TypeVar("B")


class Rounds:
    """`wakes` is told when gates open at which somebody waits."""

    def __init__(
        self, places: Gates, lines: Lines, pace: Pace, standing: Standing, wakes: Wakes
    ) -> None:
        self._places = places
        self._lines = lines
        self._pace = pace
        self._choice = Choice(places, lines, pace, standing)
        self._standing = standing
        self._wakes = wakes

    async def serve(self, wishes: Sequence[Wish], admitted: dict[str, Job]) -> list[Wish]:
        """See to all of them; `admitted` gets those who may be offered, by their ids.

        What is to be seen to next. Raises Unavailable: some may have been let in then.
        """
        again, lost, next = dict[str, Waiting](), set[str](), list[Wish]()
        for _ in range(TRIES):
            plan = await self._plan(wishes, again, admitted, lost)
            lost, jobs = await _both(self._store(plan), self._look_at(plan))
            for id, chosen in plan.chosen.items():
                job, gates = jobs[id], [gate.id for gate in chosen.gates]
                again.pop(id, None)
                if not waits(job, plan.round.now):
                    self._lines.drop(gates, job)
                    next += undone(job, gates) if lost.isdisjoint(gates) else []
                elif lost.isdisjoint(gates):
                    admitted[id] = job
                    self._lines.let_in(gates, job)
                else:
                    again[id] = _waiting(job)
            if not lost:
                await self._wake(plan)
                return [*next, *(Wish(places=gate) for gate in self._learn(plan))]
            await self._places.look(lost)
        raise Unavailable("Others change the same gates faster than this instance can.")

    async def _look_at(self, plan: Plan) -> dict[str, Job]:
        """How those that are let in stand, as the log tells.

        One that does not wait any more is found here, and not before it is let in: that would keep
        all others waiting, and it may as well move on after one has looked.
        """
        told = {id: one.job for id, one in plan.chosen.items() if one.job is not None}
        rest = [one.one for id, one in plan.chosen.items() if id not in told]
        return told | await self._standing.those(rest)

    # -- planning ----------------------------------------------------------------------------

    async def _plan(
        self,
        wishes: Sequence[Wish],
        again: dict[str, Waiting],
        admitted: Collection[str],
        looked: Collection[str],
    ) -> Plan:
        """`looked` are gates that were looked at since the jobs were."""
        now = datetime.now(UTC)
        own = [self._own(wish) for wish in wishes]
        fills = {wish.gate for wish in wishes if wish.gate}
        ids = fills | {gate.id for some in own for gate in some}
        ids |= {gate for one in again.values() for gate in one.gates}
        learnt = await self._places.know(ids)
        doubtful = self._doubtful(wishes, own, now)
        await self._places.look(doubtful)
        await self._look_again(wishes, own, {*looked, *learnt, *doubtful}, now)
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

    async def _look_again(
        self, wishes: Sequence[Wish], own: Sequence[list[Gate]], looked: set[str], now: datetime
    ) -> None:
        """See how those jobs stand now that would lose a place at gates that were `looked` at."""
        found = [
            wish
            for wish, some in zip(wishes, own, strict=True)
            if looked and wish.job is not None and not wish.asks and self._loses(wish, some, looked)
        ]
        jobs = await asyncio.gather(*(self._standing.job(w.job.id) for w in found if w.job))
        for wish, job in zip(found, jobs, strict=True):
            wish.job = job

    def _loses(self, wish: Wish, own: Sequence[Gate], looked: set[str]) -> bool:
        assert wish.job is not None
        return any(
            id in looked and (state := self._places.state(id)) and wish.job.id in state.holders
            for id in (wish.gate, *(gate.id for gate in own))
        )

    def _see_to(self, wish: Wish, job: Job, own: Sequence[Gate], plan: Plan) -> None:
        """Free what the job does not need, or let it go on if it has all that it needs."""
        state, round = job.state, plan.round
        for gate in own:
            if not keeps(state, gate, round.now):
                began = state.started if state and not wish.undo else None
                round.free(gate, job.id, began)
        if wish.gate and all(gate.id != wish.gate for gate in own):
            round.free(Gate(wish.gate, 0, "end"), job.id)
        if state is None or not is_ready(state, round.now):
            self._lines.drop([gate.id for gate in own], job)
            return
        if not wish.asks:
            return
        has = [round.has(gate.id, job.id) for gate in own]
        if all(has):
            plan.go_on(job, own)
            return
        self._lines.add([gate.id for gate in own], job)
        if any(has):
            plan.first.append(_waiting(job))

    def _learn(self, plan: Plan) -> list[Gate]:
        """See how much of the tenants' windows had begun when they were filled again."""
        windows = {
            gate.id: (gate, one.state)
            for one, own, _ in plan.chosen.values()
            for gate in own
            if gate.id.startswith(TENANT)
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
        ways = [[gate.id for gate in one.gates] for one in plan.chosen.values()]
        groups = [
            {id: what[id] for id in group}
            for group in linked(what, [w for w in ways if len(w) > 1])
        ]
        done = await asyncio.gather(*(self._places.store(g, plan.round.now) for g in groups))
        return {
            id for group, stored in zip(groups, done, strict=True) if not stored for id in group
        }


async def _both(one: Awaitable[A], other: Awaitable[B]) -> tuple[A, B]:
    """Both at a time; neither goes on any more if one fails."""
    first, second = await asyncio.gather(one, other, return_exceptions=True)
    if isinstance(first, BaseException):
        raise first
    if isinstance(second, BaseException):
        raise second
    return first, second


def _waiting(job: Job) -> Waiting:
    assert job.state is not None
    return Waiting.of(job.state, job.sequence)


def _flow(gate: str, jobs: Collection[str], plan: Plan) -> str:
    """The flow of the one job that it is about; what is about many belongs to none."""
    if len(jobs) == 1 and (chosen := plan.chosen.get(next(iter(jobs)))):
        return chosen.one.state.correlationid
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
