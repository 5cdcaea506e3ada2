"""What the programs of this folder share: counting jobs, and how they are begun. No library."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable

IN_FLIGHT = 256


class _Count:
    """Jobs done in this process, by any of its threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = 0
        self._first = 0.0

    def one_done(self) -> None:
        """A job was done; with the last one of all, say how many a second and end."""
        with self._lock:
            self._done += 1
            if self._done == 1:
                self._first = time.perf_counter()
            if self._done == int(sys.argv[3]):
                rate = self._done / (time.perf_counter() - self._first)
                # Celery makes sys.stdout its log.
                print(rate, file=sys.__stdout__, flush=True)
                os._exit(0)


one_done = _Count().one_done


async def all_enqueued(enqueue: Callable[[int], Awaitable[object]]) -> float:
    """Enqueue as many as were asked for, many at a time; how many a second."""
    count = int(sys.argv[3])
    numbers = iter(range(count))

    async def caller() -> None:
        for number in numbers:
            await enqueue(number)

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
    return count / (time.perf_counter() - started)
