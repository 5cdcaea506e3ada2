"""What a worker gives to each of its attempts: connections, and where handlers run.

Never looks at a job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from penstock.client.penstock import Penstock
from penstock.client.worker.context import JobContext
from penstock.client.worker.handlers import Handler
from penstock.client.worker.processes import Processes
from penstock.client.worker.settlements import Settlements
from penstock.client.worker.threads import Threads
from penstock.client.worker.workflow_ends import WorkflowEnds
from penstock.infra.event_log import JetStreamEventLog
from penstock.infra.objects import Objects
from penstock.infra.timers import Timers
from penstock.infra.tracing import is_recording

Called = tuple[Any, BaseException | None]
RunInThread = Callable[[Callable[[], Called]], Awaitable[Called]]
STOPPING = 2.0  # seconds that a handler gets to end after it was told to


class Station:
    """Made once a worker, on its loop."""

    def __init__(
        self,
        worker: str,
        ps: Penstock,
        log: JetStreamEventLog,
        timers: Timers,
        threads: Threads,
        processes: Processes,
        *,
        stopping: float = STOPPING,
    ) -> None:
        self.worker = worker
        self.ps = ps
        self.log = log
        self.timers = timers
        self.objects = Objects(ps.session.bus)
        self.workflow_ends = WorkflowEnds(ps.session)
        self.settlements = Settlements(ps.session)
        self.stopping = stopping
        self._threads = threads
        self._processes = processes
        self._is_recording: bool | None = None

    def is_recording(self) -> bool:
        """See `tracing.is_recording`; looked up once a round of the loop, for it takes its time."""
        if self._is_recording is None:
            self._is_recording = is_recording()
            asyncio.get_running_loop().call_soon(self._look_again)
        return self._is_recording

    def _look_again(self) -> None:
        self._is_recording = None

    async def call(
        self, handler: Handler, arguments: dict[str, Any], context: Callable[[], JobContext]
    ) -> Any:
        """What the handler returns, run in its lane. Raises what it raises."""
        given = context() if handler.takes_context or handler.lane == "process" else None
        match handler.lane:
            case "async":
                return await handler.call(arguments, given)
            case "thread":
                return await in_thread(self._threads.run, handler, arguments, given)
            case _:
                assert given is not None
                return await self._processes.run(handler, arguments, given, self.stopping)


async def in_thread(
    run: RunInThread, handler: Handler, arguments: dict[str, Any], context: JobContext | None
) -> Any:
    """What the handler returns, called in a thread by `run`. Raises what it raises, or Escaped."""

    def called() -> Called:
        try:
            return handler.call(arguments, context), None
        except BaseException as error:  # noqa: BLE001 - SystemExit too would end the thread only
            return None, error

    value, error = await run(called)
    if error is not None:
        raise (error if isinstance(error, Exception) and not _is_special(error) else Escaped(error))
    return value


def _is_special(error: Exception) -> bool:
    """Whether it cannot be raised through a coroutine."""
    return isinstance(error, StopIteration | StopAsyncIteration)


class Escaped(Exception):  # noqa: N818 - it is what came out of a thread
    """A handler raised `error`, which would end a program or a coroutine, such as SystemExit."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error
