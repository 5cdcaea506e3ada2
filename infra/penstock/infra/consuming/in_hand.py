"""Keeps the messages that this instance works on from the others, for as long as it does.

So the wait until another instance takes over can be short. Never acknowledges.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from penstock.contracts.errors import PenstockError
from penstock.infra.bus import Bus
from penstock.infra.consuming.consumers import IN_PROGRESS

log = logging.getLogger(__name__)

TAKEOVER = 4.0  # seconds without a sign of life until another instance gets a message
LONGEST = 60.0  # seconds that a command, a change or a timer may take


class InHand:
    """Tells the server every third of `takeover` seconds which deliveries are worked on.

    After `longest` seconds it tells of one no more: what hangs is tried elsewhere.
    """

    def __init__(self, bus: Bus, takeover: float = TAKEOVER, *, longest: float = LONGEST) -> None:
        self._bus = bus
        self._longest = longest
        self._interval = takeover / 3
        self._since: dict[str, float] = {}  # in the order of their arrival
        self._telling: asyncio.Task[None] | None = None

    @contextmanager
    def holding(self, reply: str) -> Iterator[None]:
        """The delivery with this reply subject is in hand while the block runs."""
        self._since[reply] = asyncio.get_running_loop().time()
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell(), name="in-hand")
        try:
            yield
        finally:
            self._since.pop(reply, None)

    async def _tell(self) -> None:
        while self._since:
            await asyncio.sleep(self._interval)
            now = asyncio.get_running_loop().time()
            for reply, since in tuple(self._since.items()):
                if now - since < self._interval / 2:
                    break
                if now - since < self._longest:
                    await self._sign(reply)

    async def _sign(self, reply: str) -> None:
        try:
            await self._bus.publish(reply, IN_PROGRESS)
        except PenstockError as error:
            # Another instance may begin the same: everything that is done is idempotent.
            log.warning("no sign of life could be given: %s", error)
