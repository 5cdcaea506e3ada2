"""Pauses the lanes of a queue at the server, which then gives no worker anything of it.

So it holds for all workers at once, whoever restarts. Never decides which queue is paused.
"""

from __future__ import annotations

import asyncio

from penstock.contracts.jobs import PRIORITIES
from penstock.contracts.subjects import token
from penstock.infra.bus import Bus, StreamError
from penstock.infra.consuming.consumers import CONSUMER_EXISTS, consumers_of, lane_config

NO_CONSUMER = 10014
LEASE = 5.0  # seconds, of a lane that no worker has asked for yet: workers set their own
FOR_EVER = "2200-01-01T00:00:00Z"


def lane_name(queue: str, priority: int) -> str:
    """The durable consumer of one queue and priority that all workers share."""
    return f"{token(queue)}-{priority}"


class QueueLanes:
    """The lanes of all queues."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._stream = bus.subjects.stream("work")

    async def pause(self, queue: str) -> None:
        """Let nothing be delivered any more, also not by lanes yet to be made.

        Raises Unavailable or StreamError: pause it again then.
        """
        await asyncio.gather(*(self._pause(queue, priority) for priority in PRIORITIES))

    async def resume(self, queue: str) -> None:
        """Let it be delivered again. Raises as `pause` does."""
        await asyncio.gather(*(self._resume(queue, priority) for priority in PRIORITIES))

    async def paused(self) -> set[str]:
        """The names of the lanes that are paused now."""
        found = await consumers_of(self._bus, self._stream)
        return {consumer["name"] for consumer in found if consumer.get("paused")}

    async def _pause(self, queue: str, priority: int) -> None:
        """Make it paused, or pause it: it never is there, if only for a moment, and delivers."""
        name = lane_name(queue, priority)
        config = lane_config(name, self._bus.subjects.work_of(queue, priority), LEASE)
        config["pause_until"] = FOR_EVER
        request = {"stream_name": self._stream, "config": config, "action": "create"}
        verb = f"CONSUMER.CREATE.{self._stream}.{name}.{config['filter_subject']}"
        try:
            await self._bus.api(verb, request)
        except StreamError as error:
            if error.err_code != CONSUMER_EXISTS:
                raise
        await self._bus.api(f"CONSUMER.PAUSE.{self._stream}.{name}", {"pause_until": FOR_EVER})

    async def _resume(self, queue: str, priority: int) -> None:
        try:
            verb = f"CONSUMER.PAUSE.{self._stream}.{lane_name(queue, priority)}"
            await self._bus.api(verb, {})
        except StreamError as error:
            if error.err_code != NO_CONSUMER:
                raise
