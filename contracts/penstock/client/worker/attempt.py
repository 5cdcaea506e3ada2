"""One attempt at a job: its handler is called, told to stop in time, and its end made out.

What is stored is in `holding`, what if the job has moved on in `taking_over`, which end follows in
`outcomes`, and what has to be done behind it in `follow_ups`. A crash between any two steps is
finished by whoever gets the item next. Never pulls work; `crew` stores what begins and ends
together, and what it could not store comes back here, to be looked into.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from msgspec.structs import replace
from opentelemetry.trace import SpanKind

from penstock.client.session import have_cause
from penstock.client.worker import outcomes, taking_over
from penstock.client.worker.context import JobContext
from penstock.client.worker.decisions import End
from penstock.client.worker.follow_ups import end_progress_of_others, follow_up, settle
from penstock.client.worker.handlers import Handler
from penstock.client.worker.holding import Holding, Stop
from penstock.client.worker.processes import ProcessDied
from penstock.client.worker.reports import Reports
from penstock.client.worker.station import Escaped, Station
from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import InvalidMessage
from penstock.contracts.jobs import JobCompleted, JobFailed, JobReady
from penstock.infra.consuming.consumers import Delivery
from penstock.infra.sender import Cause
from penstock.infra.tracing import message_span, traceparent

log = logging.getLogger(__name__)


class Attempt(Holding):
    """`task` runs `perform`; `given_up` is called when it is waited for no longer."""

    __slots__ = ("given_up", "task")

    def __init__(
        self,
        station: Station,
        handler: Handler,
        work: Envelope,
        ready: JobReady,
        item: Delivery,
        reply: str,
    ) -> None:
        super().__init__(station, handler, work, ready, item, reply)
        self.task: asyncio.Task[End | None] | None = None
        self.given_up: Callable[[Attempt], None] | None = None

    async def begin_slowly(self) -> bool:
        """See `taking_over.begin_slowly`."""
        return await taking_over.begin_slowly(self)

    async def follow_up(self, end: End) -> None:
        """See `follow_ups.follow_up`."""
        await follow_up(self, end)

    def unfinished(self) -> End | None:
        """See `outcomes.unfinished`."""
        return outcomes.unfinished(self)

    # -- running -----------------------------------------------------------------------------

    async def perform(self) -> End | None:
        """Run the handler; the event that says how it ended, or None if the job is not ours."""
        event = self.event
        assert event is not None
        cause = Cause(correlationid=event.correlationid, event=event, actor=event.actor)
        have_cause(cause)
        if not self.station.is_recording():
            return await self._performed()
        with message_span(
            "process", self.name, kind=SpanKind.CONSUMER, parent=event.traceparent, id=event.id
        ):
            self.journal.trace = traceparent() or event.traceparent
            return await self._performed()

    async def _performed(self) -> End | None:
        if self.ready.settle and self.ready.settle_at != "end":
            await settle(self)
            self.is_start_told = True
        watch = self._watch_time()
        try:
            end = await self._called()
        finally:
            if watch:
                watch.cancel()
        return await self._told_all(end)

    async def _told_all(self, end: End | None) -> End | None:
        """The end as it is stored, once all that the handler said is."""
        if self.context is None:
            if self.has_progress and isinstance(end, JobCompleted | JobFailed):
                return replace(end, progress=True)
            return end
        reports = self.context.reports
        if end is not None:
            end = await reports.close(end)
            self.has_progress = reports.has_progress
            return end
        await reports.drop()
        if reports.has_progress:
            await end_progress_of_others(self)
        return None

    async def _called(self) -> End | None:
        try:
            arguments = self.handler.arguments(self.ready.payload)
        except InvalidMessage as error:
            return outcomes.unfit(self, error)
        if self.told():
            return self.unfinished()
        try:
            value = await self.station.call(self.handler, arguments, self._context_if_asked)
        except asyncio.CancelledError:
            if self.told():
                return self.unfinished()
            return outcomes.raised(self, asyncio.CancelledError("The handler cancelled itself."))
        except ProcessDied as error:
            return self.unfinished() if self.told() else outcomes.crashed(self, error)
        except Exception as error:  # noqa: BLE001 - becomes the job's error
            raised = error.error if isinstance(error, Escaped) else error
            return self.unfinished() if self.told() else outcomes.raised(self, raised)
        return self.unfinished() if self.told() == "lost" else await outcomes.completed(self, value)

    def _context_if_asked(self) -> JobContext:
        self.context = JobContext(
            id=self.id,
            name=self.name,
            attempt=self.attempt,
            max_attempts=self.handler.policy.max_attempts or self.ready.max_attempts,
            correlationid=self.work.correlationid,
            deadline=self.deadline,
            checkpoint=self.checkpoint,
            ps=self.station.ps,
            loop=asyncio.get_running_loop(),
            is_stopped=lambda: self.stopped is not None,
            reports=Reports(
                self, self.station.ps, self.handler.stages, has_progress=self.has_progress
            ),
        )
        return self.context

    # -- stopping ----------------------------------------------------------------------------

    def stop(self, why: Stop) -> None:
        """End the handler: see `stopped`. One that does not end soon is waited for no longer."""
        if self.stopped is None:
            self.stopped = why
            if self.task is not None:
                self.task.cancel()
                asyncio.get_running_loop().call_later(self.station.stopping, self._give_up)

    def lost(self) -> None:
        """The job is no longer ours."""
        self.stop("lost")

    def _give_up(self) -> None:
        if self.given_up is not None and self.task is not None and not self.task.done():
            log.warning("the handler of %r does not stop; its outcome is lost", self.name)
            self.given_up(self)

    def _watch_time(self) -> asyncio.TimerHandle | None:
        """Stop the handler when its time, or the whole job's, is over."""
        seconds = self.ready.timeout or self.handler.timeout
        if seconds is None and self.ready.expires_at is None:
            return None  # nothing is computed for a job without limits
        now = datetime.now(UTC)
        self.deadline = outcomes.deadline_of(now, seconds, self.ready.expires_at)
        assert self.deadline is not None
        left = (self.deadline - now).total_seconds()
        if left <= 0:
            self.stopped = "timeout"
        return asyncio.get_running_loop().call_later(max(left, 0.0), self.stop, "timeout")
