"""One call of a handler, on the loop or in a thread, that can be stopped. Never stores anything."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import msgspec

from penstock.client.worker.context import JobContext
from penstock.client.worker.handlers import Handler
from penstock.client.worker.threads import Threads

log = logging.getLogger(__name__)

STOPPING = 2.0  # seconds that a handler gets to end after it was cancelled


class Returned(msgspec.Struct, frozen=True):
    """The handler came to its end."""

    value: Any


class Raised(msgspec.Struct, frozen=True):
    """The handler failed."""

    error: BaseException


Outcome = Returned | Raised


class Execution:
    """`stopping` is set once the handler should end."""

    def __init__(self, handler: Handler, threads: Threads) -> None:
        self.stopping = threading.Event()
        self._handler = handler
        self._threads = threads
        self._task: asyncio.Task[Outcome] | None = None
        self._outcome: asyncio.Future[Outcome | None]
        self._outcome = asyncio.get_running_loop().create_future()

    async def run(self, arguments: dict[str, Any], context: JobContext) -> Outcome | None:
        """What came of the handler; None if it was stopped before it came to an end."""
        if self.stopping.is_set():
            return None
        self._task = asyncio.create_task(self._call(arguments, context))
        self._task.add_done_callback(self._ended)
        return await self._outcome

    def stop(self) -> None:
        """Cancel the handler; one that does not end soon is waited for no longer."""
        self.stopping.set()
        if self._task is not None:
            self._task.cancel()
            asyncio.get_running_loop().call_later(STOPPING, self._give_up)

    async def _call(self, arguments: dict[str, Any], context: JobContext) -> Outcome:
        if not self._handler.is_async:
            return await self._threads.run(lambda: self._call_blocking(arguments, context))
        try:
            return Returned(await self._handler.call(arguments, context))
        except Exception as error:  # noqa: BLE001 - becomes the job's error
            return Raised(error)

    def _call_blocking(self, arguments: dict[str, Any], context: JobContext) -> Outcome:
        try:
            return Returned(self._handler.call(arguments, context))
        except BaseException as error:  # noqa: BLE001 - SystemExit too would end the thread only
            return Raised(error)

    def _ended(self, task: asyncio.Task[Outcome]) -> None:
        if self._outcome.done():
            return
        if not task.cancelled():
            self._outcome.set_result(task.result())
        elif self.stopping.is_set():
            self._outcome.set_result(None)
        else:
            self._outcome.set_result(
                Raised(asyncio.CancelledError("The handler cancelled itself."))
            )

    def _give_up(self) -> None:
        if not self._outcome.done():
            log.warning("the handler of %r does not stop; its outcome is lost", self._handler.name)
            self._outcome.set_result(None)
