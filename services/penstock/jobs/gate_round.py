"""One round at the gates: which places are freed and taken at one moment. Pure.

What comes of it is one event for each gate, whatever number of jobs are concerned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from penstock.contracts.gates import GateState, PlacesChanged
from penstock.jobs.gate import Gate, lately


class Change(NamedTuple):
    """What happens at one gate, and the jobs that it is about."""

    event: PlacesChanged
    jobs: frozenset[str]


class _Side:
    """One gate in this round."""

    __slots__ = ("again", "at", "began", "freed", "lately", "per", "state", "taken")

    def __init__(self, state: GateState | None) -> None:
        self.state = state
        self.freed: dict[str, None] = {}
        self.taken: dict[str, None] = {}
        self.again: dict[str, None] = {}
        self.began, self.per = 0, 0.0
        self.at: datetime | None = None
        self.lately: dict[float, int] = {}  # by how long back

    def has(self, job: str) -> bool:
        if job in self.taken:
            return True
        return self.state is not None and job in self.state.holders and job not in self.freed

    @property
    def held(self) -> int:
        before = len(self.state.holders) if self.state else 0
        return before - len(self.freed) + len(self.taken)

    def room(self, gate: Gate, now: datetime) -> int:
        places = gate.capacity - self.held
        if not gate.per:
            return places
        if gate.per not in self.lately:
            self.lately[gate.per] = lately(self.state, gate, now)
        return min(places, gate.at_most - self.lately[gate.per] - self.began - self.held)


class Round:
    """`states` gives the gates as they are known, `now` is the moment of all that happens."""

    def __init__(self, states: Callable[[str], GateState | None], now: datetime) -> None:
        self.now = now
        self._states = states
        self._sides: dict[str, _Side] = {}

    def has(self, gate: str, job: str) -> bool:
        """Whether the job has a place there."""
        return self._side(gate).has(job)

    def free(self, gate: Gate, job: str, began: datetime | None = None) -> bool:
        """Free the job's place; whether it had one. One of a rate is told when the job began."""
        side = self._side(gate.id)
        if not side.has(job):
            return False
        side.freed[job] = None
        if gate.per and began is not None:
            side.began += 1
            side.at = max(side.at or began, began)
            side.per = max(side.per, gate.per)
        return True

    def closed(self, gates: Sequence[Gate], job: str) -> list[Gate]:
        """Those that have no place for the job, and at which it has none."""
        sides = ((gate, self._side(gate.id)) for gate in gates)
        return [g for g, side in sides if not side.has(job) and side.room(g, self.now) <= 0]

    def take(self, gates: Sequence[Gate], job: str) -> None:
        """Give the job a place at each of them.

        Also told where it has one: so of two instances, of which one lets the job in and the other
        takes back what it has, only one can.
        """
        for gate in gates:
            side = self._side(gate.id)
            (side.again if side.has(job) else side.taken)[job] = None

    def takes(self, gates: Sequence[Gate], job: str) -> bool:
        """Whether `take` gave the job a place there."""
        return any(job in side.taken for side in (self._side(gate.id) for gate in gates))

    def room(self, gate: Gate) -> int:
        """How many more may have a place there."""
        return self._side(gate.id).room(gate, self.now)

    def left(self, gate: str) -> int | None:
        """How many places were kept, if others were freed and somebody was let in instead."""
        side = self._side(gate)
        return side.held - len(side.taken) if side.freed and side.taken else None

    def changes(self) -> Mapping[str, Change]:
        """What is to be stored, by gate."""
        changes = {id: _change(side) for id, side in self._sides.items()}
        return {id: one for id, one in changes.items() if one.jobs or one.event.began}

    def _side(self, gate: str) -> _Side:
        side = self._sides.get(gate)
        if side is None:
            side = self._sides[gate] = _Side(self._states(gate))
        return side


def _change(side: _Side) -> Change:
    freed = tuple(job for job in side.freed if job not in side.taken)
    taken = (*(job for job in side.taken if job not in side.freed), *side.again)
    event = PlacesChanged(freed=freed, taken=taken, began=side.began, at=side.at, per=side.per)
    return Change(event, frozenset((*freed, *taken)))
