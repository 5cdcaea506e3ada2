"""Whose turn it is at the gates: the highest priority first, then the oldest. Stores nothing.

Who has to wait at one gate is passed over at the others, and comes first again when its gate opens.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

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
        self.chosen: dict[str, tuple[Job, Sequence[Gate]]] = {}

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
            if not found or await self._confirm(plan, found):
                return

    async def _next(self, plan: Plan, wanted: Collection[str], seen: set[str]) -> list[Waiting]:
        """Those who are let in if they still wait, and those who have a place and not all."""
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

    async def _confirm(self, plan: Plan, found: Sequence[Waiting]) -> bool:
        """Look in the log whether they still wait; whether no place is left over by that."""
        jobs, are_all = await self._standing.those(found), True
        for one in found:
            job, own = jobs[one.job], self.gates(one.state)
            if not isinstance(job.state, JobState) or not is_ready(job.state, plan.round.now):
                plan.round.leave(own, one.job)
                self._lines.drop(one.gates, one.job)
                are_all = False
            elif plan.round.closed(own, one.job):
                for gate in own:
                    plan.round.free(gate, one.job)
                plan.concern(own)
                are_all = False
            else:
                plan.chosen[one.job] = job, own
        return are_all
