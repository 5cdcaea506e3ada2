"""What follows from a queue's state: its lanes paused, its jobs cancelled. Never decides.

Every step may be done again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from penstock.contracts.envelope import Envelope, unwrap, wrap
from penstock.contracts.jobs import PRIORITIES, CancelJob
from penstock.contracts.queues import PurgeQueue, QueueState
from penstock.infra.bus import Bus
from penstock.infra.deciding.aggregate import Aggregate
from penstock.infra.deciding.decider import Load
from penstock.infra.repeated import Repeated
from penstock.infra.views.live_view import LiveView
from penstock.jobs import queue_view
from penstock.jobs.cancelling import Cancelling
from penstock.jobs.queue_lanes import QueueLanes, lane_name
from penstock.jobs.queue_states import QueueStates
from penstock.jobs.queue_view import LAST, Place

LOOK = 1.0  # seconds between two looks at the queues
FOLDED = 30.0  # seconds that the view may take to get to what is purged

Folds = Callable[[int, float], Awaitable[Any]]


class QueueEffects:
    """What becomes of queues beside their events.

    `load` is the service's own, `folded` waits for the view, which `model` gives.
    """

    def __init__(
        self,
        bus: Bus,
        model: Callable[[], LiveView[Any]],
        load: Load[Any],
        cancelling: Cancelling,
        folded: Folds,
        states: QueueStates,
    ) -> None:
        self._lanes = QueueLanes(bus)
        self._model = model
        self._load = load
        self._cancelling = cancelling
        self._folded = folded
        self._states = states

    async def effect(self, queue: Aggregate[QueueState], command: Envelope) -> int:
        """Do what the queue's present state and `command` ask for; see `Decider`."""
        state = queue.state
        if state is None:
            return 0
        self._states.know(queue.sequence, state)
        await self._set_lanes(state)
        if isinstance(unwrap(command), PurgeQueue) and state.purged:
            await self._folded(queue.sequence, FOLDED)
            return await self._purge(state, state.purged, command)
        return 0

    async def look(self) -> None:
        """Learn what other instances were told, and pause what was made anew meanwhile."""
        _, found = await self._model().read(queue_view.every)
        for sequence, state in found:
            self._states.know(sequence, state)
        wanted = [state for _, state in found if state.paused]
        if not wanted:
            return
        paused = await self._lanes.paused()
        for state in wanted:
            if any(lane_name(state.name, priority) not in paused for priority in PRIORITIES):
                await self._set_lanes(state)

    def part(self) -> Repeated:
        """The part of the service that looks again and again."""
        return Repeated("look at the queues", self.look, every=LOOK)

    async def _set_lanes(self, state: QueueState) -> None:
        """Pause or resume, and look whether it was said otherwise meanwhile, or before: several
        instances may do so, and a view may be behind.
        """
        while True:
            await (self._lanes.pause if state.paused else self._lanes.resume)(state.name)
            now = (await self._load(state.id)).state
            if not isinstance(now, QueueState) or now.paused == state.paused:
                return
            state = now

    # -- purging -----------------------------------------------------------------------------

    async def _purge(self, state: QueueState, until: datetime, command: Envelope) -> int:
        """Cancel what waited `until` then, a page after the other; the sequence of the last event.

        The newest first: who waits at a gate goes before those who went through, and nobody is let
        in only to be cancelled next.
        """
        last = 0
        following: asyncio.Task[int] | None = None
        ahead = self._page(state, until, LAST)
        try:
            while page := await ahead:
                # Read and followed up beside the next: what is stored is not changed by either.
                ahead = self._page(state, until, page[-1])
                cancels = [_cancel(id, state.name, command) for _, id in page]
                items = await self._cancelling.store(cancels)
                last = max(last, await following if following else 0)
                following = asyncio.create_task(self._cancelling.follow_up(items))
            return max(last, await following if following else 0)
        finally:
            tasks = [task for task in (ahead, following) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _page(self, state: QueueState, until: datetime, before: Place) -> asyncio.Task[list[Place]]:
        async def read() -> list[Place]:
            _, page = await self._model().read(queue_view.waiting, state.name, until, before)
            return page

        return asyncio.create_task(read(), name="page-to-purge")


def _cancel(job: str, queue: str, command: Envelope) -> Envelope:
    return wrap(
        CancelJob(reason=f"the queue {queue!r} was purged", waiting=True),
        id=f"{command.id}:{job}:cancel",
        subject=job,
        time=datetime.now(UTC),
        correlationid=command.correlationid,
        cause=command,
        actor=command.actor,
        traceparent=command.traceparent,
    )
