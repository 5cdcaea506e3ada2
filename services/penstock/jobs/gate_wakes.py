"""Has gates filled when they open: those of a rate open by themselves. Never fills one itself.

Where that takes long the server keeps a timer too, for the case that this instance is gone by then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from penstock.contracts.envelope import encode, wrap
from penstock.contracts.errors import PenstockError
from penstock.contracts.jobs import SERVICE, JobDue
from penstock.infra.bus import Bus
from penstock.infra.timers import Timers

log = logging.getLogger(__name__)

SOON = 1.0  # seconds, within which a lost wake-up would be noticed anyway
REMEMBERED = 5_000  # gates


class Wakes:
    """`fill` is called with the id of a gate once it opens."""

    def __init__(self, bus: Bus, fill: Callable[[str], Awaitable[None]]) -> None:
        self._timers = Timers(bus, SERVICE)
        self._fill = fill
        self._set: dict[str, tuple[datetime, asyncio.TimerHandle]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """Fill no more."""
        for _, handle in self._set.values():
            handle.cancel()
        self._set.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def at(self, gate: str, moment: datetime) -> None:
        """Have the gate filled at `moment`, or before. Raises Unavailable or Timeout."""
        known = self._set.get(gate)
        if known is not None and known[0] <= moment:
            return
        if known is not None:
            known[1].cancel()
        elif len(self._set) >= REMEMBERED:
            return  # the sweep finds it
        delay = (moment - datetime.now(UTC)).total_seconds()
        handle = asyncio.get_running_loop().call_later(max(delay, 0.0), self._due, gate)
        self._set[gate] = moment, handle
        if delay > SOON:
            due = wrap(
                JobDue(sequence=0),
                id=f"{gate}:{moment.isoformat()}",
                subject=gate,
                time=moment,
                correlationid=gate,
            )
            await self._timers.set(gate, moment, encode(due))

    def _due(self, gate: str) -> None:
        del self._set[gate]
        task = asyncio.get_running_loop().create_task(self._fill_now(gate), name="gate-opens")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fill_now(self, gate: str) -> None:
        try:
            await self._fill(gate)
        except PenstockError as error:
            log.warning("%r is open and waits to be filled: %s", gate, error)
