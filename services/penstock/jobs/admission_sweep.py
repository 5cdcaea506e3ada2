"""Finds what stands still at the gates, and sets it going: a lost wake-up costs a second.

Looks for gates with room at which somebody waits, for jobs that have their places and are offered
to nobody, and for places of jobs that need them no longer. Several instances may look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import JobDue
from penstock.infra.bus import Bus
from penstock.infra.deciding.decider import Load
from penstock.infra.last_messages import LastMessages
from penstock.infra.repeated import Repeated
from penstock.infra.views.live_view import LiveView
from penstock.jobs import gate_view
from penstock.jobs.admission import Admission
from penstock.jobs.gate import is_ready

LOOK = 1.0  # seconds
EVERY = 5  # looks between two that cost more
GATES, JOBS = 200, 500  # that one look takes care of


class AdmissionSweep:
    """`load` and `model` are the service's own."""

    def __init__(
        self,
        bus: Bus,
        admission: Admission,
        load: Load[Any],
        model: Callable[[], LiveView[Any]],
    ) -> None:
        self._bus = bus
        self._admission = admission
        self._load = load
        self._model = model
        self._items = LastMessages(bus, bus.subjects.stream("work"))
        self._gate = self._job = self._holder = ""
        self._looks = 0

    def part(self) -> Repeated:
        """The part of the service that looks again and again."""
        return Repeated("search for jobs that may pass their gates", self.look, every=LOOK)

    async def due(self, id: str, _: JobDue) -> None:
        """The timer of a gate went off."""
        await self._admission.fill(id)

    async def look(self) -> None:
        """Look once. Raises Unavailable: look again then."""
        self._looks += 1
        _, (gates, self._gate) = await self._model().read(gate_view.with_room, self._gate, GATES)
        await asyncio.gather(*map(self._admission.fill, gates))
        if self._looks % EVERY == 0:
            await self._offer_again()
            await self._free()

    async def _offer_again(self) -> None:
        """Offer those that have a place and no item: who let them in may have died then."""
        _, ids = await self._model().read(gate_view.with_places, self._job, JOBS)
        self._job = ids[-1] if len(ids) == JOBS else ""
        _, jobs = await self._model().read(gate_view.jobs, ids)
        work = self._bus.subjects.work
        subjects = {job.id: work(job.queue, job.priority, job.id) for job in jobs}
        items = await self._items.of(*subjects.values()) if subjects else {}
        for id in (id for id, subject in subjects.items() if subject not in items):
            job = await self._load(id)
            state = job.state if isinstance(job.state, JobState) else None
            if state is None or not is_ready(state, datetime.now(UTC)):
                continue
            await self._admission.admit(job, fresh=True)

    async def _free(self) -> None:
        """Free the places of those that are over, erased or waiting for their time."""
        _, (idle, self._holder) = await self._model().read(gate_view.idle, self._holder, GATES)
        for gate, id in idle[:JOBS]:
            await self._admission.free_if_over(gate, id)
