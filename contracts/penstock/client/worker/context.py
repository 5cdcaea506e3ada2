"""What a handler is given: its job, and what it may tell of it. Never runs a handler."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from typing import Any, TypeVar

from penstock.client.penstock import Penstock
from penstock.client.worker.reports import Reports
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import Origin

T = TypeVar("T")
AWAIT_INSTEAD = "An async handler awaits the call itself, without ctx.run."


class JobContext:
    """The job that a handler works on; given to a parameter annotated with this class.

    `attempt` counts from 1. `deadline` is when the attempt's or the job's time is over, None for
    never. `checkpoint` is what an earlier attempt saved last, or None. Commands sent with `ps`
    belong to the job's flow and have this attempt as their cause.
    """

    def __init__(
        self,
        *,
        id: str,
        name: str,
        attempt: int,
        max_attempts: int,
        correlationid: str,
        deadline: datetime | None,
        checkpoint: Any,
        ps: Penstock,
        loop: asyncio.AbstractEventLoop,
        is_stopped: Callable[[], bool],
        reports: Reports,
    ) -> None:
        self.id = id
        self.name = name
        self.attempt = attempt
        self.max_attempts = max_attempts
        self.correlationid = correlationid
        self.deadline = deadline
        self.checkpoint = checkpoint
        self.ps = ps
        self.reports = reports
        self._loop = loop
        self._is_stopped = is_stopped
        self._children = 0

    @property
    def is_last_attempt(self) -> bool:
        """Whether the job fails for good if this attempt does."""
        return self.attempt >= self.max_attempts

    @property
    def is_cancelled(self) -> bool:
        """Whether to stop: the job was cancelled, its time is over, its lease was lost, or the
        worker shuts down. An async handler is cancelled by itself; a sync one asks here.
        """
        return self._is_stopped()

    def progress(
        self, percent: float, *, stage: str | None = None, message: str | None = None
    ) -> None:
        """Say how far the job is (0 to 100). Watchers of the progress with the job's id see it.

        May be called as often as one likes: the newest is sent a few times a second. The progress
        ends with the job.
        """
        self._loop.call_soon_threadsafe(self.reports.progress, percent, stage, message)

    def log(self, message: str, *, level: str = "info") -> None:
        """Say something: it is heard live, and kept in the job's history once a second."""
        self._loop.call_soon_threadsafe(self.reports.log, message, level)

    async def save_checkpoint(self, value: Any) -> None:
        """Keep `value`, up to 64 KB of JSON, for a later attempt: its `checkpoint`.

        Raises TooLarge, Unavailable, or LeaseLost if the job is no longer this attempt's. A sync
        handler calls `ctx.run(ctx.save_checkpoint(value))`.
        """
        await self.reports.save(value)
        self.checkpoint = value

    async def enqueue(
        self,
        name: str | Callable[..., Any],
        payload: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> JobState:
        """Enqueue a job as this one's child; `options` are those of `ps.jobs.enqueue`.

        Its id comes from this job's and the order of the calls, unless one is given: an attempt
        that is made again does not enqueue it again.
        """
        self._children += 1
        options.setdefault("id", f"{self.id}.{self._children}")
        return await self.ps.jobs.enqueue(name, payload, origin=Origin(parent=self.id), **options)

    def heartbeat(self) -> None:
        """Raise CancelledError if the job is to stop; for sync handlers between two steps."""
        if self.is_cancelled:
            raise asyncio.CancelledError("The job is to stop.")

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Wait for a call of `ps` in a sync handler: `ctx.run(ctx.ps.progress.update(...))`.

        Raises what the call raises, and RuntimeError in an async handler, which awaits instead.
        """
        if is_loop_running():
            call.close()
            raise RuntimeError(AWAIT_INSTEAD)
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()


def is_loop_running() -> bool:
    """Whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
