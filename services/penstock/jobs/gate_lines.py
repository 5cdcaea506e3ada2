"""Who waits at the gates, in the order of their turns: a page of each line, kept for a moment.

Read from the view, and added to by those who come here. A hint: who acts upon it looks at the log.
Never gives anybody a place.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from penstock.contracts.job_state import JobState
from penstock.infra.deciding.aggregate import Aggregate
from penstock.infra.views.live_view import LiveView
from penstock.jobs import gate_view
from penstock.jobs.gate_view import Waiting

log = logging.getLogger(__name__)

AGE = 0.1  # seconds after which a line is read anew, beside what is done with it
OLD = 1.0  # seconds after which nothing is done with it before
LEAST = 64  # of those who wait, read together
MOST = 1_000
REMEMBERED = 1_000  # lines
LATELY = 50_000  # jobs that were let in, or were found not to wait

Job = Aggregate[JobState]
T = TypeVar("T")


class _Line:
    __slots__ = ("read", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[str, Waiting] = {}
        self.read = 0.0


class Lines:
    """`model` gives the view. Who was let in here is no longer in line, whatever that says."""

    def __init__(
        self, model: Callable[[], LiveView[Any]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._model = model
        self._clock = clock
        self._lines: OrderedDict[str, _Line] = OrderedDict()
        self._let_in: OrderedDict[str, Job] = OrderedDict()
        self._passed: OrderedDict[str, int] = OrderedDict()
        self._later: dict[str, int] = {}
        self._looking: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Read no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def look(self, wanted: Mapping[str, int]) -> None:
        """Know those who are next at each gate, as many as are wanted or a few more."""
        now, asked = self._clock(), dict[str, int]()
        for gate, count in wanted.items():
            line = self._line(gate)
            age, asks = now - line.read, min(max(LEAST, 2 * count), MOST)
            if age >= OLD or len(line.waiting) < count:
                asked[gate] = asks
            elif age >= AGE:
                self._later[gate] = asks
        if asked:
            await self._read(asked)
        if self._later and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self._look_later(), name="lines")

    async def _look_later(self) -> None:
        """Nobody waits for this: who finds the line old once more reads it."""
        asked, self._later = self._later, {}
        try:
            await self._read(asked)
        except Exception as error:  # noqa: BLE001 - raised where the lines have become OLD
            log.warning("%d lines could not be read: %r", len(asked), error)

    async def _read(self, asked: Mapping[str, int]) -> None:
        now = self._clock()
        known = {job: one for gate in asked for job, one in self._line(gate).waiting.items()}
        sequence, found = await self._model().read(gate_view.next_at, asked, known, self._passed)
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

    def drop(self, gates: Collection[str], job: Job) -> None:
        """The job does not wait for a place as it is now, whatever the view says of it before.

        One that waits for its time comes again as it is now.
        """
        for gate in gates:
            self._line(gate).waiting.pop(job.id, None)
        comes = job.state is not None and job.state.state in ("pending", "retrying")
        _remember(self._passed, job.id, job.sequence - comes)

    def let_in(self, gates: Collection[str], job: Job) -> None:
        """The job has got what it needs, as it is now."""
        self.drop(gates, job)
        _remember(self._passed, job.id, job.sequence)
        _remember(self._let_in, job.id, job)

    def forget(self, *jobs: str) -> None:
        """That they were let in counts no more."""
        for job in jobs:
            self._let_in.pop(job, None)
            self._passed.pop(job, None)

    def known(self, job: str) -> Job | None:
        """A job that was let in here, as it was then."""
        return self._let_in.get(job)

    def _is_past(self, one: Waiting) -> bool:
        return self._passed.get(one.job, 0) >= one.sequence

    def _line(self, gate: str) -> _Line:
        line = self._lines.get(gate)
        if line is None:
            line = self._lines[gate] = _Line()
            if len(self._lines) > REMEMBERED:
                self._lines.popitem(last=False)
        else:
            self._lines.move_to_end(gate)
        return line


def _remember(lately: OrderedDict[str, T], job: str, what: T) -> None:
    lately[job] = what
    lately.move_to_end(job)
    if len(lately) > LATELY:
        lately.popitem(last=False)
