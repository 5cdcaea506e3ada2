"""Counts the dead letters of a service that are there, for its metrics. Never reads one."""

from __future__ import annotations

import asyncio
import logging

from penstock.contracts.errors import PenstockError
from penstock.infra.bus import Bus
from penstock.infra.telemetry import DEAD_LETTERS_KEPT

log = logging.getLogger(__name__)

EVERY = 15.0  # seconds


class LetterCount:
    """Sets `penstock_dead_letters_kept` every 15 seconds; a `Part`."""

    def __init__(self, bus: Bus, service: str) -> None:
        self._bus = bus
        self._service = service
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to count."""
        self._task = asyncio.create_task(self._run(), name=f"letters-{self._service}")

    async def stop(self) -> None:
        """Count no more."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def problem(self) -> str | None:
        """See `Part.problem`: a count that is late keeps nothing from its work."""
        return None

    async def _run(self) -> None:
        while True:
            try:
                found = await letters(self._bus, self._service)
                DEAD_LETTERS_KEPT.labels(self._service).set(found)
            except PenstockError as error:
                log.debug("%s: dead letters are not counted now: %s", self._service, error)
            await asyncio.sleep(EVERY)


async def letters(bus: Bus, service: str = "", kind: str = "", *, first: int = 1) -> int:
    """How many dead letters there are from number `first` on, whatever their number is."""
    request = {"seq": first, "next_by_subj": bus.subjects.dead(service, kind), "batch": 1}
    found = await bus.direct_get(bus.subjects.stream("dead"), request)
    return found[0].pending + 1 if found else 0
