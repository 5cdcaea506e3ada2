"""Who has a place at which gate in memory, and who waits for one. Never says what a gate lets in.

The turns are those of `penstock.jobs.admission_choice`.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime

from penstock.client.testing.log import MemoryLog
from penstock.contracts.gates import GateState, PlacesChanged
from penstock.contracts.job_state import JobState
from penstock.jobs.gate import WINDOW, Event, Gate, Weight, gates, is_gated, is_ready, keeps, opens

Turn = tuple[int, int]  # the highest priority goes first, then the oldest


class _Line:
    """The jobs that are `waiting` at one gate, by their turns."""

    def __init__(self) -> None:
        self.waiting: set[str] = set()
        self._by_turn: list[tuple[Turn, str]] = []

    def add(self, id: str, turn: Turn) -> None:
        if id not in self.waiting:
            self.waiting.add(id)
            heapq.heappush(self._by_turn, (turn, id))

    def take(self) -> str | None:
        while self._by_turn:
            _, id = heapq.heappop(self._by_turn)
            if id in self.waiting:
                self.waiting.remove(id)
                return id
        return None


class MemoryGates:
    """`weight` tells the turns of a tenant; `wake` is told when a gate opens again by itself."""

    def __init__(
        self,
        log: MemoryLog,
        clock: Callable[[], datetime],
        weight: Weight,
        wake: Callable[[datetime, str], None],
    ) -> None:
        self._log = log
        self._clock = clock
        self._weight = weight
        self._wake = wake
        self._lines: defaultdict[str, _Line] = defaultdict(_Line)

    def admits(self, id: str) -> bool:
        """Take the places that a ready job needs, all of them or none; whether it has them now."""
        own = self._gates(id)
        closed = [gate for gate in own if not self._is_open(gate, id)]
        if closed:
            for gate in own:
                if id in self._holders(gate.id):
                    self._store(gate.id, PlacesChanged(freed=(id,)), id)
                self._lines[gate.id].add(id, self._turn(id))
            return False
        for gate in own:
            self._lines[gate.id].waiting.discard(id)
            if id not in self._holders(gate.id):
                self._store(gate.id, PlacesChanged(taken=(id,)), id)
        return True

    def freed_by(self, id: str) -> list[str]:
        """Free what the job needs no longer; the others that may run now."""
        job, admitted = self._job(id), list[str]()
        for gate in self._gates(id):
            if id in self._holders(gate.id) and not keeps(job, gate, self._clock()):
                self._store(gate.id, _freed(gate, job), id)
                admitted += self.fill(gate.id)
        return admitted

    def fill(self, gate: str) -> list[str]:
        """Give the free places of a gate to those that wait; these, if they have all they need."""
        admitted, passed, line = list[str](), list[str](), self._lines[gate]
        while (id := line.take()) is not None:
            if not is_ready(self._job(id), self._clock()):
                continue
            if self.admits(id):
                admitted.append(id)
                continue
            line.waiting.discard(id)
            passed.append(id)
            if not all(self._is_open(own, id) for own in self._gates(id) if own.id == gate):
                break  # there is no place left
        for id in passed:
            line.add(id, self._turn(id))
        return admitted

    def _is_open(self, gate: Gate, id: str) -> bool:
        if id in self._holders(gate.id):
            return True
        now, state = self._clock(), self._log.states.get(gate.id)
        moment = opens(state if isinstance(state, GateState) else None, gate, now)
        if moment is not None and moment > now:
            self._wake(moment, gate.id)
        return moment is not None and moment <= now

    def _gates(self, id: str) -> list[Gate]:
        job = self._job(id)
        return gates(job, self._window) if is_gated(job.rules) else []

    def _window(self, queue: str, tenant: str) -> int:
        return WINDOW * self._weight(queue, tenant)

    def _holders(self, gate: str) -> dict[str, datetime]:
        state = self._log.states.get(gate)
        return state.holders if isinstance(state, GateState) else {}

    def _turn(self, id: str) -> Turn:
        return -self._job(id).priority, self._log.events[id][0].sequence

    def _job(self, id: str) -> JobState:
        job: JobState = self._log.states[id]
        return job

    def _store(self, gate: str, event: Event, id: str) -> None:
        last = self._log.last(id)
        self._log.append(
            gate,
            event,
            event_id=f"{gate}:{self._log.newest + 1}:{id}",
            now=self._clock(),
            correlationid=last.correlationid,
            cause=last,
            actor=last.actor,
        )


def _freed(gate: Gate, job: JobState) -> PlacesChanged:
    if gate.per and job.started is not None:
        return PlacesChanged(freed=(job.id,), began=1, at=job.started, per=gate.per)
    return PlacesChanged(freed=(job.id,))
