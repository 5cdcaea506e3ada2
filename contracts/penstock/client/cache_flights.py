"""One run of a factory for each key at a time, shared by all who wait. Never stores anything.

A run belongs to the cache: it goes on when a caller is cancelled, and ends when the cache closes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgspec

from penstock.contracts.errors import Unavailable


class Position(msgspec.Struct, frozen=True):
    """How recent a read is, by what was stored before it.

    `asof` is a sequence of the cache's events. `change` is the sequence of an own change that is
    published and perhaps not applied yet. `revision` is that of the key itself: it grows when the
    key is set or deleted, and is 0 where nothing stands.
    """

    asof: int = 0
    change: int = 0
    revision: int = 0

    def covers(self, other: Position) -> bool:
        """Whether a value computed from here on is recent enough for a reader at `other`."""
        return (
            self.asof >= other.asof
            and self.change >= other.change
            and self.revision >= other.revision
        )


class Flight:
    """One run of a factory, begun at `position`."""

    def __init__(self, position: Position, task: asyncio.Task[msgspec.Raw]) -> None:
        self.position = position
        self._task = task

    async def result(self) -> msgspec.Raw:
        """The encoded value, or the factory's exception."""
        try:
            return await asyncio.shield(self._task)
        except asyncio.CancelledError:
            if self._task.cancelled() and not _is_cancelled():
                raise Unavailable("The cache was closed while a value was computed.") from None
            raise

    async def ended(self) -> None:
        """Wait until it is over, however it ends."""
        await asyncio.wait((self._task,))


class Flights:
    """The runs under way in this process."""

    def __init__(self) -> None:
        self._running: dict[str, Flight] = {}
        self._tasks: set[asyncio.Task[msgspec.Raw]] = set()

    def running(self, key: str) -> Flight | None:
        """The run for a key that is under way."""
        return self._running.get(key)

    def start(self, key: str, position: Position, run: Coroutine[Any, Any, msgspec.Raw]) -> Flight:
        """Begin a run for a key that has none."""
        task = asyncio.create_task(run, name=f"cache-fill {key}")
        flight = self._running[key] = Flight(position, task)
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._end(key, task))
        return flight

    async def close(self) -> None:
        """End every run."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _end(self, key: str, task: asyncio.Task[msgspec.Raw]) -> None:
        del self._running[key]
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # its waiters have it; that none may be left is no error of its own


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
