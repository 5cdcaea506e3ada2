"""The event loop of a process of the process lane, in a thread of its own, and a client on it.

Neither is there before a handler needs it, and both stay for the handlers to come.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from penstock.client.penstock import Penstock
from penstock.client.worker.context import is_loop_running
from penstock.contracts.errors import PenstockError

log = logging.getLogger(__name__)

T = TypeVar("T")
ENDING = 2.0  # seconds that what is cancelled gets to end, and the connection to close


class ChildClient:
    """`make` gives a client that is yet to be connected."""

    def __init__(self, make: Callable[[], Penstock]) -> None:
        self._make = make
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ps: Penstock | None = None
        self._error: PenstockError | None = None

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Run it on the loop, and wait for it; it is cancelled when the process is told to end."""
        ended = threading.Event()

        async def tracked() -> T:
            try:
                return await call
            finally:
                ended.set()

        future = asyncio.run_coroutine_threadsafe(tracked(), self._running())
        try:
            return future.result()
        except SystemExit:
            if not future.done():
                future.cancel()
                ended.wait(ENDING)
            raise

    def connect(self) -> None:
        """See that there is a client, or an error for `ps` to raise. Never on the loop."""
        if self._ps is None:
            try:
                self._ps, self._error = self.run(self._make().connect()), None
            except PenstockError as error:
                self._error = error

    @property
    def ps(self) -> Penstock:
        """The client. Raises Unavailable if no system is there."""
        if not is_loop_running():
            self.connect()
        if self._ps is None:
            assert self._error is not None
            raise self._error
        return self._ps

    def close(self) -> None:
        """Flush, disconnect and end the loop, if there is anything to."""
        if self._loop is None or self._thread is None:
            return
        closing = asyncio.run_coroutine_threadsafe(self._close(), self._loop)
        try:
            closing.result(2 * ENDING)
        except TimeoutError:  # a handler blocks the loop
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ENDING)

    async def _close(self) -> None:
        if self._ps is not None:
            try:
                async with asyncio.timeout(ENDING):
                    await self._ps.close()
            except TimeoutError:
                log.warning("the client of a process of the lane is closed with unsent messages")
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=_serve, args=(self._loop,), daemon=True, name="lane-loop"
            )
            self._thread.start()
        return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()
