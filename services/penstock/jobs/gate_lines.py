"""Who waits at the gates, in the order of their turns: a page of each line, kept for a moment.

Read from the view, and added to by those who come here. A hint: who acts upon it looks at the log.
Never gives anybody a place.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Any

from penstock.contracts.job_state import JobState
from penstock.infra.deciding.aggregate import Aggregate
from penstock.infra.views.live_view import LiveView
from penstock.jobs import gate_view
from penstock.jobs.gate_view import Waiting

AGE = 0.1  # seconds after which a line is read anew
LEAST = 64  # of those who wait, read together
MOST = 1_000
REMEMBERED = 1_000  # lines
LET_IN = 50_000  # jobs that were let in lately

Job = Aggregate[JobState]


class _Line:
    __slots__ = ("read", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[str, Waiting] = {}
        self.read = 0.0


class Lines:
    """`model` gives the view. Who was let in here is no longer in line, whatever that says."""

    def __init__(self, model: Callable[[], LiveView[Any]]) -> None:
        self._model = model
        self._lines: OrderedDict[str, _Line] = OrderedDict()
        self._let_in: OrderedDict[str, Job] = OrderedDict()

    async def look(self, wanted: Mapping[str, int]) -> None:
        """Know those who are next at each gate, as many as are wanted or a few more."""
        now = time.monotonic()
        asked = {
            gate: min(max(LEAST, 2 * count), MOST)
            for gate, count in wanted.items()
            if self._is_old(self._line(gate), count, now)
        }
        if not asked:
            return
        known = {job: one for gate in asked for job, one in self._line(gate).waiting.items()}
        sequence, found = await self._model().read(gate_view.next_at, asked, known, self._let_in)
        for gate, waiting in found.items():
            line = self._line(gate)
            newer = {job: one for job, one in line.waiting.items() if one.sequence > sequence}
            line.waiting = {one.job: one for one in waiting if not self._is_past(one)} | newer
            line.read = now

    def add(self, gates: Collection[str], job: Job) -> None:
        """A job has come that the view may not know of yet."""
        assert job.state is not None
        one = Waiting.of(job.state, job.sequence)
        for gate in gates:
            line = self._line(gate)
            if len(line.waiting) < MOST or job.id in line.waiting:
                line.waiting[job.id] = one

    def of(self, gate: str) -> list[Waiting]:
        """Those in line: the highest priority first, then the oldest."""
        return sorted(self._line(gate).waiting.values(), key=lambda one: one.turn)

    def drop(self, gates: Collection[str], job: str) -> None:
        """The job does not wait any more, as the log tells."""
        for gate in gates:
            self._line(gate).waiting.pop(job, None)

    def let_in(self, gates: Collection[str], job: Job) -> None:
        """The job has got what it needs, as it is now."""
        self.drop(gates, job.id)
        self._let_in[job.id] = job
        self._let_in.move_to_end(job.id)
        if len(self._let_in) > LET_IN:
            self._let_in.popitem(last=False)

    def forget(self, job: str) -> None:
        """That it was let in counts no more."""
        self._let_in.pop(job, None)

    def known(self, job: str) -> Job | None:
        """A job that was let in here, as it was then."""
        return self._let_in.get(job)

    def _is_past(self, one: Waiting) -> bool:
        known = self._let_in.get(one.job)
        return known is not None and known.sequence >= one.sequence

    def _is_old(self, line: _Line, count: int, now: float) -> bool:
        return now - line.read >= AGE or len(line.waiting) < count

    def _line(self, gate: str) -> _Line:
        line = self._lines.get(gate)
        if line is None:
            line = self._lines[gate] = _Line()
            if len(self._lines) > REMEMBERED:
                self._lines.popitem(last=False)
        else:
            self._lines.move_to_end(gate)
        return line
