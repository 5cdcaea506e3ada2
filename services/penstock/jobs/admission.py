"""Who may be offered to workers: jobs that have a place at each of their gates.

All who come while one round is under way are served in the next: it frees what is needed no longer,
gives the free places to those whose turn it is, stores one event for each gate, and offers all whom
it let in together. Who finds a gate full waits in the view, which costs nothing. What is lost on
the way, since an instance died amid a round, is found by `admission_sweep`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from penstock.contracts.job_state import JobState
from penstock.infra.bus import Bus
from penstock.infra.deciding.aggregate import Aggregate
from penstock.infra.deciding.decider import Load
from penstock.infra.views.live_view import LiveView
from penstock.jobs.admission_round import Rounds
from penstock.jobs.admission_wish import Wish
from penstock.jobs.gate import gates, is_gated, keeps
from penstock.jobs.gate_lines import Lines
from penstock.jobs.gate_pace import Pace
from penstock.jobs.gate_wakes import Wakes
from penstock.jobs.gates import Gates
from penstock.jobs.offers import Offers
from penstock.jobs.queue_states import QueueStates
from penstock.jobs.standing import Standing

TOGETHER = 500  # who are served in one round

Job = Aggregate[JobState]


class Admission:
    """A part of the service. `load` is the service's own, `model` gives its view."""

    def __init__(
        self,
        bus: Bus,
        places: Gates,
        states: QueueStates,
        load: Load[Any],
        model: Callable[[], LiveView[Any]],
        offers: Offers,
    ) -> None:
        self._load = load
        self._offers = offers
        self._lines = Lines(model)
        self.standing = Standing(bus, self._lines.known, load)
        places.elsewhere = self._lines.forget
        self._wakes = Wakes(bus, self.fill)
        pace = Pace(states.weight)
        self._rounds = Rounds(places, self._lines, pace, self.standing, self._wakes)
        self._wishes: list[Wish] = []
        self._serving: asyncio.Task[None] | None = None
        self._offering: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Nothing has to be done."""

    async def stop(self) -> None:
        """Wake up and look at lines no more."""
        await self._wakes.stop()
        await self._lines.close()

    def problem(self) -> str | None:
        """Nothing keeps it from its work."""
        return None

    async def admit(self, job: Job, *, fresh: bool = False) -> None:
        """Have a ready job offered once it is through its gates, now if it is its turn.

        One that is not let in waits in the view. `fresh`: look at the log of its gates first.
        Raises Unavailable.
        """
        assert job.state is not None
        if is_gated(job.state.rules):
            await self._served(Wish(job=job, asks=True, fresh=fresh))
        else:
            await self._offers.offer(job)

    async def settle(self, job: Job) -> None:
        """Free what the job needs no longer, and offer those who may go instead.

        Raises Unavailable.
        """
        if job.state is not None and is_gated(job.state.rules):
            await self._served(Wish(job=job))

    async def fill(self, gate: str) -> None:
        """Give the free places of a gate to those who wait. Raises Unavailable."""
        await self._served(Wish(gate=gate))

    async def free_if_over(self, gate: str, id: str) -> None:
        """Free a place if its job needs it no longer, as the log tells. Raises Unavailable."""
        job = await self._load(id)
        state = job.state if isinstance(job.state, JobState) else None
        now = datetime.now(UTC)
        if state and any(keeps(state, one, now) for one in gates(state) if one.id == gate):
            return
        self._lines.forget(id)
        await self._served(Wish(job=Aggregate(id, state), gate=gate))

    # -- rounds ------------------------------------------------------------------------------

    async def _served(self, wish: Wish) -> None:
        self._wishes.append(wish)
        if self._serving is None or self._serving.done():
            self._serving = asyncio.create_task(self._serve(), name="admission")
        await wish.done

    async def _serve(self) -> None:
        while self._wishes:
            wishes, self._wishes = self._wishes[:TOGETHER], self._wishes[TOGETHER:]
            admitted, error = dict[str, Job](), None
            try:
                self._wishes += await self._rounds.serve(wishes, admitted)
            except BaseException as raised:  # noqa: BLE001 - raised where they wait
                error = raised
            # Beside the next round: what was stored there is not changed by it.
            task = asyncio.create_task(self._offer(wishes, admitted, error), name="admitted")
            self._offering.add(task)
            task.add_done_callback(self._offering.discard)

    async def _offer(
        self, wishes: Sequence[Wish], admitted: dict[str, Job], error: BaseException | None
    ) -> None:
        try:
            await self._offers.offer_all(list(admitted.values()))
        except BaseException as raised:  # noqa: BLE001 - raised where they wait
            error = error or raised
        for wish in wishes:
            if wish.done.done():
                continue
            if error is None:
                wish.done.set_result(None)
            else:
                wish.done.set_exception(error)
                wish.done.exception()  # nobody may wait any more: that is no error of its own
