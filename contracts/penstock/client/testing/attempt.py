"""One attempt of a job in memory: the handler is run, and what comes of it stored.

The decisions are the worker's own, from `client.worker`. Never waits for a time to come.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from penstock.client.penstock import Penstock
from penstock.client.session import caused_by
from penstock.client.testing.absent import NotInMemory
from penstock.client.testing.reports import MemoryReports
from penstock.client.testing.session import MemorySession, others_turn
from penstock.client.worker import outcomes
from penstock.client.worker.context import JobContext
from penstock.client.worker.decisions import End
from penstock.client.worker.handlers import Handler
from penstock.client.worker.job_progress import end_progress
from penstock.client.worker.station import Called, Escaped, in_thread
from penstock.contracts.errors import InvalidMessage
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import JobCancelled, JobCompleted, JobFailed, JobStarted
from penstock.infra.sender import Cause
from penstock.jobs.job import ready

NAME = "testing"  # the worker's
_present: ContextVar[MemoryAttempt | None] = ContextVar("penstock_attempt", default=None)


def present_attempt() -> MemoryAttempt | None:
    """The attempt whose handler calls, if one does."""
    return _present.get()


class Surroundings(Protocol):
    """Where attempts run."""

    now: datetime
    ps: Penstock
    session: MemorySession
    threads: Executor

    def jitter(self) -> float:
        """From 0 to 1."""
        ...

    def started(self, id: str) -> None:
        """An attempt of the job has begun."""
        ...


class MemoryAttempt:
    """`error` is what the handler raised, None if it did not; `deadline` when its time is over."""

    def __init__(self, around: Surroundings, handler: Handler, job: JobState, item: int) -> None:
        self._around = around
        self._correlationid = job.correlationid
        self._item = item
        self.handler = handler
        self.ready = ready(job, item)
        self._log = around.session.logs["jobs"]
        self._head = 0
        self._reports: MemoryReports | None = None
        self.id = job.id
        self.attempt = self.ready.attempt
        self.deadline: datetime | None = None
        self.is_over_time = False
        self.error: BaseException | None = None

    async def run(self) -> None:
        """Run the handler, and store how it began and ended."""
        started = JobStarted(attempt=self.attempt, worker=NAME, item=self._item)
        event = self._log.follow_on(self.id, started, self._around.now)
        self._head = self._log.sequence(self.id)
        self._around.started(self.id)
        self._limit_time()
        with caused_by(Cause(correlationid=event.correlationid, event=event, actor=event.actor)):
            with _as_present(self):
                end = await self._called()
            await self._ended(end)

    def note(self, event: msgspec.Struct) -> bool:
        """Store an event amid the attempt; False if the job is no longer this attempt's."""
        if not self._is_ours():
            return False
        self._log.follow_on(self.id, event, self._around.now)
        self._head = self._log.sequence(self.id)
        return True

    def stop_in_time(self) -> None:
        """Raise CancelledError in the handler if its time is over."""
        if self.deadline is not None and self._around.now >= self.deadline:
            self._around.now = self.deadline
            self.is_over_time = True
            raise asyncio.CancelledError("The time for it is over.")

    def now(self) -> datetime:
        """See `outcomes.Tried`."""
        return self._around.now

    def jitter(self) -> float:
        """See `outcomes.Tried`."""
        return self._around.jitter()

    def _is_ours(self) -> bool:
        return self._log.sequence(self.id) == self._head

    def _limit_time(self) -> None:
        now, seconds = self._around.now, self.ready.timeout or self.handler.timeout
        self.deadline = outcomes.deadline_of(now, seconds, self.ready.expires_at)
        self.is_over_time = self.deadline is not None and self.deadline <= now

    async def _called(self) -> End:
        try:
            arguments = self.handler.arguments(self.ready.payload)
        except InvalidMessage as error:
            self.error = error
            return outcomes.unfit(self, error)
        if self.is_over_time:
            return self._timed_out()
        try:
            value = await self._in_lane(arguments)
        except NotInMemory:
            raise  # what this system cannot do is the test's to know
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) and task.cancelling():
                raise  # the test itself is to end
            return self._raised(asyncio.CancelledError("The handler cancelled itself."))
        except Exception as error:  # noqa: BLE001 - becomes the job's error
            return self._raised(error.error if isinstance(error, Escaped) else error)
        return self._completed(value)

    async def _in_lane(self, arguments: dict[str, Any]) -> Any:
        context = self._context() if self.handler.takes_context else None
        if inspect.iscoroutinefunction(self.handler.function):
            return await self.handler.call(arguments, context)
        return await in_thread(self._run_in_thread, self.handler, arguments, context)

    async def _run_in_thread(self, called: Callable[[], Called]) -> Called:
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        return await loop.run_in_executor(self._around.threads, context.run, called)

    def _context(self) -> JobContext:
        self._reports = MemoryReports(
            self,
            self._around.session,
            self.handler.stages,
            has_progress=self.ready.progress,
        )
        return JobContext(
            id=self.id,
            name=self.handler.name,
            attempt=self.attempt,
            max_attempts=self.handler.policy.max_attempts or self.ready.max_attempts,
            correlationid=self._correlationid,
            deadline=self.deadline,
            checkpoint=self.ready.checkpoint,
            ps=self._around.ps,
            loop=asyncio.get_running_loop(),
            is_stopped=lambda: self.is_over_time or not self._is_ours(),
            reports=self._reports,
        )

    # -- ending ------------------------------------------------------------------------------

    async def _ended(self, end: End) -> None:
        has_progress = self.ready.progress
        if self._reports is not None:
            await others_turn()  # what a thread said before it ended
            self._reports.flush()
            has_progress = self._reports.has_progress
        if has_progress and isinstance(end, JobCompleted | JobFailed):
            end = replace(end, progress=True)
        if not self.note(end) or not has_progress:  # it was cancelled meanwhile, or that is all
            return
        if isinstance(end, JobCompleted | JobFailed | JobCancelled):
            await end_progress(self._around.ps, self.id, end, self._head)

    def _completed(self, value: Any) -> End:
        try:
            result = msgspec.json.decode(msgspec.json.encode(value))
        except Exception as error:  # noqa: BLE001 - a value that JSON cannot carry
            self.error = error
            return outcomes.unkept(self, error)
        return JobCompleted(attempt=self.attempt, result=result)

    def _raised(self, error: BaseException) -> End:
        if self.is_over_time:
            return self._timed_out()
        self.error = error
        return outcomes.raised(self, error)

    def _timed_out(self) -> End:
        self.error = error = TimeoutError(outcomes.TIME_OVER)
        return outcomes.timed_out(self, error)


@contextmanager
def _as_present(attempt: MemoryAttempt) -> Iterator[None]:
    token = _present.set(attempt)
    try:
        yield
    finally:
        _present.reset(token)
