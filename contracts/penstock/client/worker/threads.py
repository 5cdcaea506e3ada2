"""Threads for handlers that block. Never runs anything on the event loop.

`ThreadPoolExecutor` is not used because the interpreter waits for its threads at exit: a handler
that does not return would keep a drained worker alive.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
_Call = Callable[[], None]


class Threads:
    """Up to `most` daemon threads, begun when they are needed and reused."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._begun = 0
        self._busy = 0

    async def run(self, function: Callable[[], T]) -> T:
        """The result of `function`, called in a thread with the present context variables.

        `function` must not raise: an exception cannot always cross (StopIteration, SystemExit).
        When the caller is cancelled the thread goes on, and its result is dropped.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        context = contextvars.copy_context()

        def call() -> None:
            result = context.run(function)
            try:
                loop.call_soon_threadsafe(self._finished, future, result)
            except RuntimeError:
                return  # the loop was closed meanwhile: nobody waits for the result

        self._busy += 1
        if self._busy > self._begun < self._most:
            self._begin()
        self._calls.put(call)
        return await future

    def stop(self) -> None:
        """End the threads that are idle, and the others once they return."""
        for _ in range(self._begun):
            self._calls.put(None)

    def _begin(self) -> None:
        self._begun += 1
        name = f"{self._name}-{self._begun}"
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()

    def _finished(self, future: asyncio.Future[Any], result: Any) -> None:
        self._busy -= 1
        if not future.done():
            future.set_result(result)
