"""Whose turn it is at the gates: the highest priority first, then the oldest. Stores nothing.

Who has to wait at one gate is passed over at the others, and comes first again when its gate opens.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from penstock.contracts.job_state import JobState
from penstock.infra.deciding.aggregate import Aggregate
from penstock.jobs.gate import Gate, gates, is_ready
from penstock.jobs.gate_lines import LEAST, Lines
from penstock.jobs.gate_pace import Pace
from penstock.jobs.gate_round import Round
from penstock.jobs.gate_view import Waiting
from penstock.jobs.gates import Gates
from penstock.jobs.standing import Standing

LOOKS = 20  # at those who wait, in one round
PASSED_OVER = 200  # of those who wait for another gate, in one line

Job = Aggregate[JobState]


class Chosen(NamedTuple):
    """Who is let in through `gates`. Without a `job` it is one in line, who is looked at in the log
    while the round is stored.
    """

    one: Waiting
    gates: Sequence[Gate]
    job: Job | None = None


class Plan:
    """What is to come of a round: `chosen` are let in once it is stored.

    `concerned` are the gates at which there may be places now, `fills` the ids of others. `first`
    go before those in line. `closed` are gates at which somebody may have to wait.
    """

    def __init__(self, round: Round, fills: Collection[str], first: Sequence[Waiting]) -> None:
        self.round = round
        self.fills = fills
        self.first = list(first)
        self.concerned: dict[str, Gate] = {}
        self.closed: dict[str, Gate] = {}
        self.chosen: dict[str, Chosen] = {}

    def go_on(self, job: Job, gates: Sequence[Gate]) -> None:
        """Let in a job that had all that it needs."""
        assert job.state is not None
        if job.version > 1:  # else nobody can have known it as one that needs no place
            self.round.take(gates, job.id)
        self.chosen[job.id] = Chosen(Waiting.of(job.state, job.sequence), gates, job)

    def concern(self, gates: Sequence[Gate]) -> None:
        """See whether there are places at these."""
        self.concerned |= {gate.id: gate for gate in gates}

    def open(self) -> dict[str, int]:
        """The gates that have places, and how many; of some that is not known."""
        found = dict.fromkeys(self.fills, LEAST)
        for id, gate in self.concerned.items():
            if (room := self.round.room(gate)) > 0:
                found[id] = max(room, found.get(id, 0))
            else:
                self.closed[id] = gate
        return found


class Choice:
    """Fills plans with those who are let in."""

    def __init__(self, places: Gates, lines: Lines, pace: Pace, standing: Standing) -> None:
        self._places = places
        self._lines = lines
        self._pace = pace
        self._standing = standing

    def gates(self, state: JobState | None) -> list[Gate]:
        """The gates of a job, as wide as they are now."""
        return gates(state, self._pace.window) if state else []

    async def make(self, plan: Plan, admitted: Collection[str]) -> None:
        """Let in as long as there are places and somebody waits, but those who are `admitted`.

        Raises Unavailable.
        """
        seen = {*admitted, *plan.chosen}
        for _ in range(LOOKS):
            wanted = plan.open()
            await self._lines.look(wanted)
            found = await self._next(plan, wanted, seen)
            if not found or await self._choose(plan, found):
                return

    async def _next(self, plan: Plan, wanted: Collection[str], seen: set[str]) -> list[Waiting]:
        """Those who are let in, and those who have a place and not all."""
        lines = [("", plan.first), *((gate, self._lines.of(gate)) for gate in wanted)]
        plan.first = []
        await self._places.know({gate for _, line in lines for one in line for gate in one.gates})
        found = list[Waiting]()
        for gate, line in lines:
            found += self._next_of(plan, gate, line, seen)
        return found

    def _next_of(
        self, plan: Plan, gate: str, line: Sequence[Waiting], seen: set[str]
    ) -> list[Waiting]:
        found, passed = list[Waiting](), 0
        for one in line:
            if one.job in seen:
                continue
            own = self.gates(one.state)
            closed = plan.round.closed(own, one.job)
            has = [plan.round.has(each.id, one.job) for each in own]
            if not closed and not all(has):
                plan.round.take(own, one.job)
            elif closed and not any(has):
                plan.closed |= {each.id: each for each in closed}
                passed += 1
                if passed > PASSED_OVER or any(each.id == gate for each in closed):
                    break
                continue
            seen.add(one.job)
            found.append(one)
        return found

    async def _choose(self, plan: Plan, found: Sequence[Waiting]) -> bool:
        """Choose those who have all their places; whether nobody lost one to others by that."""
        had = list[Waiting]()
        for one in found:
            own = self.gates(one.state)
            if plan.round.takes(own, one.job):
                plan.chosen[one.job] = Chosen(one, own)
            else:
                had.append(one)
        return not had or await self._see_to_those_who(plan, had)

    async def _see_to_those_who(self, plan: Plan, had: Sequence[Waiting]) -> bool:
        """Who had all places goes on, and who has to wait for another loses what it had, if the log
        says that they wait; see `_choose`.
        """
        jobs, are_all = await self._standing.those(had), True
        for one in had:
            job, own = jobs[one.job], self.gates(one.state)
            if not waits(job, plan.round.now):
                self._lines.drop(one.gates, job)
            elif plan.round.closed(own, one.job):
                for gate in own:
                    plan.round.free(gate, one.job)
                plan.concern(own)
                are_all = False
            else:
                plan.go_on(job, own)
        return are_all


def waits(job: Job, now: datetime) -> bool:
    """Whether the job still is one that may be offered to workers."""
    return isinstance(job.state, JobState) and is_ready(job.state, now)
