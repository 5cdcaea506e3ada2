"""Watches the durable consumers of one instance of a service: there, reachable, and worked off.

A consumer that somebody deleted falls silent without a word, and so does one whose messages nobody
finishes: so they are looked at. Never takes or acknowledges a message.
"""

from __future__ import annotations

import asyncio
import logging

from penstock.contracts.errors import PenstockError
from penstock.infra.bus import Bus, StreamError
from penstock.infra.consuming.durables import MISSING, Backlog, Durable
from penstock.infra.retrying import until_available

log = logging.getLogger(__name__)

EVERY = 0.75  # seconds between two looks
PATIENCE = 20.0  # seconds to wait at the start for a stream without a leader
STALL = 5.0  # seconds in which messages wait and none is finished


class Watched:
    """What is known of one consumer. `patience`: seconds that one message may rightly take."""

    def __init__(self, durable: Durable, kind: str, patience: float) -> None:
        self.problem: str | None = None
        self._durable = durable
        self._kind = kind
        self._patience = patience
        self._last: Backlog | None = None
        self._since = 0.0  # when something was last finished, or nothing waited

    async def look(self) -> None:
        """Look once, and make it again if it is gone."""
        try:
            self._judge(await self._durable.look())
        except StreamError as error:
            if error.err_code in MISSING:
                await self._make_again()
            else:
                self.problem = f"its consumer {self._durable.name} is refused: {error}"
        except PenstockError as error:
            self.problem = f"its consumer {self._durable.name} cannot be reached: {error}"

    async def _make_again(self) -> None:
        name = self._durable.name
        try:
            await self._durable.ensure()
        except PenstockError as error:
            self.problem = f"its consumer {name} was lost and cannot be made again: {error}"
        else:
            log.warning("the consumer %s was lost and is made again", name)
            self.problem = None

    def _judge(self, backlog: Backlog) -> None:
        now = asyncio.get_running_loop().time()
        if self._last is None or not backlog.waiting or backlog.settled != self._last.settled:
            self._since = now
        self._last = backlog
        idle = now - self._since
        self.problem = self._stalled(backlog.waiting, idle) if idle >= self._patience else None

    def _stalled(self, waiting: int, idle: float) -> str:
        what = f"1 {self._kind} waits" if waiting == 1 else f"{waiting} {self._kind}s wait"
        return f"{what} and none was taken for {idle:.0f} s"


class Watchdog:
    """A `Part`, the first to start: from then on its consumers are there."""

    def __init__(self, bus: Bus, service: str) -> None:
        self._bus = bus
        self._service = service
        self._durables: list[Durable] = []
        self._watched: list[Watched] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def watch(self, durable: Durable, kind: str, *, patience: float = STALL) -> None:
        """Look after one more; `kind` is what it delivers."""
        self._durables.append(durable)
        self._watched.append(Watched(durable, kind, patience))

    async def start(self) -> None:
        """Make the consumers, and begin to look.

        Waits for a stream that has no leader now. Raises StreamError, Unavailable or Timeout.
        """
        await asyncio.gather(*map(_present, self._durables))
        self._bus.listeners.add(self._wake.set)
        self._task = asyncio.create_task(self._run(), name=f"watchdog-{self._service}")

    async def stop(self) -> None:
        """Look no more; the consumers stay."""
        self._bus.listeners.discard(self._wake.set)
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def problem(self) -> str | None:
        """What is wrong with any of the consumers, or None."""
        if self._task and self._task.done():
            return "it no longer looks after its consumers; see the log"
        found = [watched.problem for watched in self._watched if watched.problem]
        return "; ".join(found) or None

    async def _run(self) -> None:
        while True:
            await asyncio.gather(*(watched.look() for watched in self._watched))
            try:
                async with asyncio.timeout(EVERY):
                    await self._wake.wait()  # connected again: look at once
            except TimeoutError:
                continue
            self._wake.clear()


async def _present(durable: Durable) -> None:
    await until_available(durable.ensure, f"the consumer {durable.name}", within=PATIENCE)
