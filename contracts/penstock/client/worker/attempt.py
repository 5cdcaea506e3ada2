"""One work item in a worker's hands: how its job begins, is run and ends.

Every event is fenced by the job's last sequence, so that of two workers only one gets on. A crash
between any two steps is finished by whoever gets the item next. Never pulls work; `crew` stores
what begins and ends together, and what it could not store comes back here, to be looked into.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from msgspec.structs import replace
from opentelemetry.trace import SpanKind

from penstock.client.session import caused_by
from penstock.client.worker.context import JobContext
from penstock.client.worker.decisions import (
    Append,
    Drop,
    End,
    Event,
    Failure,
    Wait,
    after_crash,
    after_failure,
    taking,
)
from penstock.client.worker.described import described
from penstock.client.worker.handlers import Handler
from penstock.client.worker.journal import Journal
from penstock.client.worker.policy import Dead
from penstock.client.worker.processes import ProcessDied
from penstock.client.worker.reports import Reports, end_progress
from penstock.client.worker.results import keep
from penstock.client.worker.station import Escaped, Station
from penstock.contracts.envelope import Envelope, unwrap
from penstock.contracts.errors import (
    Conflict,
    InvalidMessage,
    LeaseLost,
    PenstockError,
    Unavailable,
)
from penstock.contracts.jobs import (
    JobCancelled,
    JobCheckpointed,
    JobCompleted,
    JobFailed,
    JobLogged,
    JobReady,
    JobReleased,
    JobRetrying,
    JobSnoozed,
    JobStarted,
    SettleJob,
)
from penstock.infra.append_many import Append as Stored
from penstock.infra.consuming.consumers import ACK, NAK, delivery
from penstock.infra.sender import Cause
from penstock.infra.tracing import is_recording, message_span, traceparent

log = logging.getLogger(__name__)

TRIES = 5  # times that others may be quicker at the same job before it is left to them
RETRY = 0.2  # seconds until an outcome is stored again while the server is away
Stop = Literal["lost", "shutdown", "timeout"]
TIMED_OUT = "TimedOut"


class Attempt:
    """`work` is the item's envelope around `ready`; `reply` acknowledges it.

    `sequence` is that of the job's last event that was written here, 0 before the start;
    `is_writing` while another may be on its way. `stopped` says why the handler is to end.
    """

    __slots__ = (
        "_checkpoint",
        "_context",
        "_crashes",
        "_deadline",
        "_event",
        "_handler",
        "_item",
        "_known_progress",
        "_ready",
        "_started",
        "_station",
        "_work",
        "attempt",
        "given_up",
        "is_writing",
        "journal",
        "reply",
        "sequence",
        "started_at",
        "stopped",
        "task",
    )

    def __init__(
        self, station: Station, handler: Handler, work: Envelope, ready: JobReady, reply: str
    ) -> None:
        item = delivery(reply)
        # Not its count: a server that was killed counts the same deliveries once more.
        this = f"{work.subject}:{station.worker}:{item.sequence}.{random.getrandbits(64):x}"
        self._station = station
        self._handler = handler
        self._work = work
        self._ready = ready
        self._item = item.sequence
        self._event: Envelope | None = None
        self._checkpoint = ready.checkpoint
        self._crashes = ready.crashes
        self._known_progress = ready.progress
        self._context: JobContext | None = None
        self._deadline: datetime | None = None
        self.journal = Journal(station.log, station.timers, work, ready, this)
        self.reply = reply
        self.attempt = ready.attempt
        self.sequence = self._started = 0
        self.is_writing = False
        self.stopped: Stop | None = None
        self.task: asyncio.Task[End | None] | None = None
        self.given_up: Callable[[Attempt], None] | None = None
        self.started_at: datetime | None = None

    @property
    def id(self) -> str:
        """The job's."""
        return self._work.subject

    @property
    def name(self) -> str:
        """The job's, and its handler's."""
        return self._handler.name

    @property
    def on_loop(self) -> bool:
        """Whether the handler runs on the worker's event loop."""
        return self._handler.lane == "async"

    # -- starting ----------------------------------------------------------------------------

    def begin(self, now: datetime) -> Stored:
        """What is stored if nothing happened to the job since the item was made."""
        started = JobStarted(attempt=self.attempt, worker=self._station.worker, item=self._item)
        self._event = self.journal.next(started, now)
        return self.journal.append(self._event)

    def begun(self, sequence: int) -> None:
        """The start is stored at `sequence`."""
        assert self._event is not None
        self.journal.stored(self._event, sequence)
        self.sequence = self._started = sequence
        self.started_at = self._event.time

    async def begin_slowly(self) -> bool:
        """The job has moved on, or nobody knows: become its holder, or find the item useless.

        Raises Unavailable if others are quicker again and again: the item then comes again. While
        the server is away it waits, since a start that was stored unseen would cost a crash.
        """
        tries = 0
        while tries < TRIES:
            try:
                if (is_ours := await self._looked_into()) is not None:
                    return is_ours
                tries += 1
            except Unavailable as error:
                log.warning("job %s cannot begin yet: %s", self.id, error)
                await asyncio.sleep(RETRY)
        raise Unavailable("Others change the job faster than it can be started.")

    async def _looked_into(self) -> bool | None:
        """Whether the job is ours to run; None if somebody was quicker and it has to be seen."""
        records = await self.journal.since(self._ready.sequence)
        since = [unwrap(record.event) for record in records]
        self._learn(since)
        if records and self.journal.wrote(records[-1].event) and isinstance(since[-1], JobStarted):
            self._event = records[-1].event
            self.attempt = since[-1].attempt
            self.begun(records[-1].sequence)
            return True
        match self._taking(since):
            case Drop():
                await self._dropped(since)
                return False
            case Wait(run_at):
                await self.journal.wake_at(run_at)
                return False
            case Append(events):
                taken = await self._took(events)
                return isinstance(events[-1], JobStarted) if taken else None

    def _learn(self, since: list[Any]) -> None:
        """What earlier holders of this item left."""
        self._crashes = self._ready.crashes
        for event in since:
            match event:
                case JobCheckpointed():
                    self._checkpoint = event.checkpoint
                case JobLogged(progress=True):
                    self._known_progress = True
                case JobRetrying(crash=True):
                    self._crashes += 1

    def _taking(self, since: list[Any]) -> Drop | Wait | Append:
        return taking(
            since,
            self._ready,
            item=self._item,
            worker=self._station.worker,
            now=datetime.now(UTC),
        )

    async def _took(self, events: tuple[Event, ...]) -> bool:
        try:
            await self.journal.store(events)
        except Conflict:
            return False
        self._event = self.journal.last
        self.sequence = self._started = self.journal.head.sequence
        end = events[-1]
        self._crashes += sum(isinstance(one, JobRetrying) and one.crash for one in events)
        if isinstance(end, JobStarted):
            self.attempt, self.started_at = end.attempt, datetime.now(UTC)
        elif isinstance(end, JobFailed):
            await self._over(end)
        return True

    async def _dropped(self, since: list[Any]) -> None:
        """Finish what the last holder may have left undone: the job is over, or not ours."""
        last = since[-1] if since else None
        if isinstance(last, JobCompleted | JobFailed | JobCancelled):
            await self._over(last)
        elif self._ready.settle:
            await self._settle()

    async def _over(self, end: JobCompleted | JobFailed | JobCancelled) -> None:
        """Tell those who wait for the job's end, at the head of the journal."""
        if self._ready.settle:
            await self._settle()
        if self._known_progress or (not isinstance(end, JobCancelled) and end.progress):
            await end_progress(self._station.ps, self.id, end, self.journal.head.sequence)

    # -- running -----------------------------------------------------------------------------

    async def perform(self) -> End | None:
        """Run the handler; the event that says how it ended, or None if the job is not ours."""
        event = self._event
        assert event is not None
        cause = Cause(correlationid=event.correlationid, event=event, actor=event.actor)
        with caused_by(cause):
            if not is_recording():
                return await self._performed()
            with message_span(
                "process", self.name, kind=SpanKind.CONSUMER, parent=event.traceparent, id=event.id
            ):
                self.journal.trace = traceparent() or event.traceparent
                return await self._performed()

    async def _performed(self) -> End | None:
        if self._ready.settle:
            await self._settle()
        watch = self._watch_time()
        try:
            end = await self._called()
        finally:
            if watch:
                watch.cancel()
        return await self._told_all(end)

    async def _told_all(self, end: End | None) -> End | None:
        """The end as it is stored, once all that the handler said is."""
        if self._context is None:
            if self._known_progress and isinstance(end, JobCompleted | JobFailed):
                return replace(end, progress=True)
            return end
        reports = self._context.reports
        if end is not None:
            end = await reports.close(end)
            self._known_progress = reports.has_progress
            return end
        await reports.drop()
        if reports.has_progress:
            await self._end_progress_of_others()
        return None

    async def _end_progress_of_others(self) -> None:
        """If somebody else ended the job, such as by cancelling it, its progress ends too."""
        since = [unwrap(record.event) for record in await self.journal.since(self.sequence)]
        if since and isinstance(since[-1], JobCompleted | JobFailed | JobCancelled):
            await end_progress(self._station.ps, self.id, since[-1], self.journal.head.sequence)

    async def _called(self) -> End | None:
        try:
            arguments = self._handler.arguments(self._ready.payload)
        except InvalidMessage as error:
            unfit = described(error, trace=False)
            return self._failed(Failure(unfit, Dead(), cause="payload"))
        if self.told():
            return self.unfinished()
        try:
            value = await self._station.call(self._handler, arguments, self._context_if_asked)
        except asyncio.CancelledError:
            if self.told():
                return self.unfinished()
            return self._raised(asyncio.CancelledError("The handler cancelled itself."))
        except ProcessDied as error:
            return self.unfinished() if self.told() else self._crashed(error)
        except Exception as error:  # noqa: BLE001 - becomes the job's error
            raised = error.error if isinstance(error, Escaped) else error
            return self.unfinished() if self.told() else self._raised(raised)
        return self.unfinished() if self.told() == "lost" else await self._completed(value)

    def _context_if_asked(self) -> JobContext:
        self._context = JobContext(
            id=self.id,
            name=self.name,
            attempt=self.attempt,
            max_attempts=self._handler.policy.max_attempts or self._ready.max_attempts,
            correlationid=self._work.correlationid,
            deadline=self._deadline,
            checkpoint=self._checkpoint,
            ps=self._station.ps,
            loop=asyncio.get_running_loop(),
            is_stopped=lambda: self.stopped is not None,
            reports=Reports(
                self,
                self._station.ps,
                self._handler.stages,
                has_progress=self._known_progress,
            ),
        )
        return self._context

    def stop(self, why: Stop) -> None:
        """End the handler: see `stopped`. One that does not end soon is waited for no longer."""
        if self.stopped is None:
            self.stopped = why
            if self.task is not None:
                self.task.cancel()
                asyncio.get_running_loop().call_later(self._station.stopping, self._give_up)

    def told(self) -> Stop | None:
        """Why the handler is to end by now."""
        return self.stopped

    def lost(self) -> None:
        """The job is no longer ours."""
        self.stop("lost")

    def _give_up(self) -> None:
        if self.given_up is not None and self.task is not None and not self.task.done():
            log.warning("the handler of %r does not stop; its outcome is lost", self.name)
            self.given_up(self)

    def _watch_time(self) -> asyncio.TimerHandle | None:
        """Stop the handler when its time, or the whole job's, is over."""
        seconds = self._ready.timeout or self._handler.timeout
        if seconds is None and self._ready.expires_at is None:
            return None
        now = datetime.now(UTC)
        ends = [now + timedelta(seconds=seconds)] if seconds else []
        if self._ready.expires_at:
            ends.append(self._ready.expires_at)
        self._deadline = min(ends)
        left = (self._deadline - now).total_seconds()
        if left <= 0:
            self.stopped = "timeout"
        return asyncio.get_running_loop().call_later(max(left, 0.0), self.stop, "timeout")

    # -- ending ------------------------------------------------------------------------------

    def unfinished(self) -> End | None:
        """How an attempt ends whose handler was stopped."""
        match self.stopped:
            case "shutdown":
                return JobReleased(
                    attempt=self.attempt,
                    worker=self._station.worker,
                    item=self._item,
                    reason="the worker shuts down",
                )
            case "timeout":
                return self._timed_out()
            case _:
                log.info("job %s was cancelled, or its lease lost", self.id)
                return None

    def _timed_out(self) -> End:
        error = TimeoutError("The time for it was over before it came to its end.")
        action = self._handler.policy.after(error)
        expires = self._ready.expires_at
        over = expires is not None and datetime.now(UTC) >= expires
        named = replace(described(error, trace=False), type=TIMED_OUT)
        return self._failed(Failure(named, action, over=over))

    def _raised(self, error: BaseException) -> End:
        return self._failed(Failure(described(error), self._handler.policy.after(error)))

    def _crashed(self, error: ProcessDied) -> End:
        return after_crash(
            described(error, trace=False),
            attempt=self.attempt,
            crashes=self._crashes,
            max_crashes=self._ready.max_crashes,
            backoff=self._ready.backoff,
            now=datetime.now(UTC),
            jitter=random.random(),
        )

    def _failed(self, failure: Failure) -> End:
        policy, ready = self._handler.policy, self._ready
        return after_failure(
            failure,
            attempt=self.attempt,
            max_attempts=policy.max_attempts or ready.max_attempts,
            backoff=policy.backoff or ready.backoff,
            now=datetime.now(UTC),
            jitter=random.random(),
        )

    async def _completed(self, value: Any) -> End:
        try:
            result, stored = await keep(
                self._station.objects, self.name, self.id, self._started, value
            )
        except PenstockError as error:
            return self._failed(Failure(described(error, trace=False), Dead()))
        except Exception as error:  # noqa: BLE001 - a value that JSON cannot carry
            return self._failed(Failure(described(error, trace=False), Dead()))
        return JobCompleted(attempt=self.attempt, result=result, stored=stored)

    def end(self, end: End, now: datetime) -> Stored:
        """What stores the end, behind the last event that was written here."""
        self.is_writing = True
        self._event = self.journal.next(end, now)
        return self.journal.append(self._event)

    def ended(self, sequence: int) -> None:
        """The end is stored at `sequence`."""
        assert self._event is not None
        self.journal.stored(self._event, sequence)

    async def end_slowly(self, end: End) -> None:
        """Store the end for as long as that takes: the work is done, and the fence is safe.

        Raises LeaseLost if the job has moved on.
        """
        while True:
            try:
                await self.journal.store((end,))
                return
            except Conflict as error:
                raise LeaseLost(
                    f"The outcome of job {self.id} is refused: it was cancelled, or another worker "
                    "took it over when this one's lease ran out."
                ) from error
            except Unavailable as error:
                log.warning("job %s ended and cannot say so yet: %s", self.id, error)
                await asyncio.sleep(RETRY)

    def has_sequel(self, end: End) -> bool:
        """Whether something has to follow the end before the item may be acknowledged."""
        waits = isinstance(end, JobRetrying | JobSnoozed)
        return waits or self._ready.settle or self._known_progress

    async def follow_up(self, end: End) -> None:
        """Do what follows the end; again by the next delivery, if this one dies before."""
        if isinstance(end, JobCompleted | JobFailed | JobCancelled):
            await self._over(end)
            return
        if isinstance(end, JobRetrying | JobSnoozed):
            await self.journal.wake_at(end.run_at)
        if self._ready.settle:
            await self._settle()

    def answer(self, end: End) -> bytes:
        """How the item is acknowledged."""
        return NAK if isinstance(end, JobReleased) else ACK

    async def _settle(self) -> None:
        """Tell those who wait for the job, for as long as that takes: giving up would cost a crash.

        The item's lease is kept meanwhile, and the command's id makes telling twice harmless.
        """
        command_id = f"{self.id}:{self.journal.head.sequence}:settle"
        while True:
            try:
                await self._station.ps.session.post(SettleJob(), id=self.id, command_id=command_id)
                return
            except Unavailable as error:
                log.warning("job %s cannot be settled yet: %s", self.id, error)
                await asyncio.sleep(RETRY)
