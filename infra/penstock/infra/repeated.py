"""Something that is looked at again and again, for as long as a service runs. Never what it is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from penstock.contracts.errors import PenstockError
from penstock.infra.bus import Bus

log = logging.getLogger(__name__)

HURRIED = 4  # turns that come sooner


class Repeated:
    """A `Part` that calls `look` every so many seconds, the first time after `first` seconds.

    What `look` raises as a PenstockError is logged, and the next turn tries again; anything else
    ends the turns and is a problem. `name` says what is looked at, in the log and the problem.
    """

    def __init__(
        self, name: str, look: Callable[[], Awaitable[object]], *, every: float, first: float = 0.0
    ) -> None:
        self._name = name
        self._look = look
        self._every = every
        self._first = first
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        """End; what was begun in a turn is found again by another."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def problem(self) -> str | None:
        """That it has ended, and why; a turn that failed keeps nobody from their work."""
        if self._task and self._task.done() and not self._task.cancelled():
            return f"{self._name} has ended: {self._task.exception()}; see the log"
        return None

    async def _run(self) -> None:
        await asyncio.sleep(self._first)
        while True:
            try:
                await self._look()
            except PenstockError as error:
                log.warning("%s waits for its next turn: %s", self._name, error)
            except Exception:
                log.exception("%s has ended", self._name)
                raise
            await self._pause()

    async def _pause(self) -> None:
        await asyncio.sleep(self._every)


class AfterConnecting(Repeated):
    """The same, and some times every `soon` seconds after it began or `bus` connected again."""

    def __init__(
        self,
        name: str,
        look: Callable[[], Awaitable[object]],
        *,
        bus: Bus,
        every: float,
        soon: float,
    ) -> None:
        super().__init__(name, look, every=every, first=soon)
        self._bus = bus
        self._soon = soon
        self._hurried = HURRIED
        self._connected = asyncio.Event()

    async def start(self) -> None:
        """Begin."""
        self._bus.listeners.add(self._hurry)
        await super().start()

    async def stop(self) -> None:
        """End."""
        self._bus.listeners.discard(self._hurry)
        await super().stop()

    def _hurry(self) -> None:
        self._hurried = HURRIED
        self._connected.set()

    async def _pause(self) -> None:
        self._connected.clear()
        if self._hurried:
            self._hurried -= 1
            await asyncio.sleep(self._soon)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._every):
                await self._connected.wait()
