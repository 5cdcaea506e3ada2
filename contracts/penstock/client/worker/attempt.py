"""One work item in a worker's hands: start the job, run its handler, store what came of it.

Every event is fenced by the job's last sequence, so that of two workers only one gets on. A crash
between any two steps is finished by whoever gets the item next. Never pulls work.
"""

from __future__ import annotations

import asyncio
import logging
import random
import traceback
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from opentelemetry.trace import SpanKind

from penstock.client.penstock import Penstock
from penstock.client.session import caused_by
from penstock.client.worker.context import JobContext, PermanentFailure
from penstock.client.worker.decisions import (
    Append,
    Drop,
    Event,
    Wait,
    after_conflict,
    after_failure,
)
from penstock.client.worker.execution import Execution, Raised, Returned
from penstock.client.worker.handlers import Handler
from penstock.client.worker.journal import Head, Journal, head_of
from penstock.client.worker.leases import Held, Leases
from penstock.client.worker.threads import Threads
from penstock.contracts.envelope import Envelope, unwrap
from penstock.contracts.errors import Conflict, InvalidMessage, LeaseLost, TooLarge, Unavailable
from penstock.contracts.jobs import (
    MAX_INLINE,
    JobCompleted,
    JobError,
    JobFailed,
    JobReady,
    JobReleased,
    JobRetrying,
    JobStarted,
)
from penstock.infra.consuming.consumers import ACK, NAK, delivery
from penstock.infra.event_log import JetStreamEventLog, Recorded
from penstock.infra.sender import Cause
from penstock.infra.timers import Timers
from penstock.infra.tracing import message_span

log = logging.getLogger(__name__)

TRIES = 5  # times that others may be quicker at the same job before it is left to them
RETRY = 0.2  # seconds until an outcome is stored again while the server is away
MAX_MESSAGE, MAX_TRACEBACK = 4_000, 8_000  # characters of an error that are kept
Stop = Literal["lost", "shutdown"]


class Station(msgspec.Struct, frozen=True):
    """What a worker gives to each of its attempts."""

    worker: str
    ps: Penstock
    log: JetStreamEventLog
    timers: Timers
    leases: Leases
    threads: Threads


class Started(msgspec.Struct, frozen=True):
    """The attempt that this worker holds, and its JobStarted."""

    attempt: int
    recorded: Recorded


class Attempt:
    """`work` is the item's envelope around `ready`; `reply` acknowledges it."""

    def __init__(
        self, station: Station, handler: Handler, work: Envelope, ready: JobReady, reply: str
    ) -> None:
        self._station = station
        self._handler = handler
        self._work = work
        self._ready = ready
        self._reply = reply
        item = delivery(reply)
        self._item = item.sequence
        this = f"{work.subject}:{station.worker}:{item.sequence}.{item.count}"
        self._journal = Journal(station.log, station.timers, work, this)
        self._execution = Execution(handler, station.threads)
        self._stop: Stop | None = None

    async def run(self) -> None:
        """All of it. What cannot be stored now is left to the next delivery of the item."""
        work = self._work
        held = Held(work.subject, self._reply, lambda: self.stop("lost"))
        self._station.leases.hold(held)
        try:
            with message_span(
                "process",
                self._handler.name,
                kind=SpanKind.CONSUMER,
                parent=work.traceparent,
                id=work.id,
            ):
                await self._run(held)
        except LeaseLost as error:
            log.warning("%s", error)
        except Unavailable as error:
            log.warning("job %s comes back when its lease ends: %s", work.subject, error)
        finally:
            self._station.leases.release(held)

    def stop(self, why: Stop) -> None:
        """End the handler: the job is no longer ours, or the worker shuts down."""
        if self._stop is None:
            self._stop = why
            self._execution.stop()

    async def _run(self, held: Held) -> None:
        started = await self._start()
        if started is None:
            await self._answer(ACK)
            return
        held.sequence = started.recorded.sequence
        end = await self._end(started)
        if end is not None:
            await self._store(started, end)

    # -- starting ----------------------------------------------------------------------------

    async def _start(self) -> Started | None:
        """Become the job's holder, or None if the item is of no use any more."""
        events, head = self._first()
        for _ in range(TRIES):
            try:
                recorded = await self._journal.append(events, head)
            except Conflict:
                last = await self._journal.last(after=head.sequence)
                match self._after_conflict(last):
                    case Drop():
                        return None
                    case Wait(run_at):
                        await self._journal.wake_at(run_at, last)
                        return None
                    case Append(events):
                        head = head_of(last)
            else:
                end = events[-1]
                return Started(end.attempt, recorded) if isinstance(end, JobStarted) else None
        raise Unavailable("Others change the job faster than it can be started.")

    def _first(self) -> tuple[tuple[Event, ...], Head]:
        """What is stored if nothing happened to the job since the item was made."""
        ready, work, worker = self._ready, self._work, self._station.worker
        head = Head(
            ready.sequence,
            work.version,
            work.causationid,
            work.causationtype,
            work.causationtime,
        )
        return (JobStarted(attempt=ready.attempt, worker=worker, item=self._item),), head

    def _after_conflict(self, last: Recorded) -> Drop | Wait | Append:
        return after_conflict(
            unwrap(last.event),
            item=self._item,
            worker=self._station.worker,
            max_attempts=self._ready.max_attempts,
            now=datetime.now(UTC),
        )

    # -- running -----------------------------------------------------------------------------

    async def _end(self, started: Started) -> Event | None:
        """Run the handler; the event that says how it ended, or None if the job is not ours."""
        try:
            arguments = self._handler.arguments(self._ready.payload)
        except InvalidMessage as error:
            return self._failed(_described(error, trace=False), started, permanent=True)
        event = started.recorded.event
        with caused_by(Cause(correlationid=event.correlationid, event=event, actor=event.actor)):
            outcome = await self._execution.run(arguments, self._context(started.attempt))
        match outcome:
            case _ if self._stop == "lost":
                log.info("job %s was cancelled, or its lease lost", self._work.subject)
                return None
            case Returned(value):
                return self._completed(value, started)
            case Raised(raised) if self._stop is None:
                permanent = isinstance(raised, PermanentFailure)
                return self._failed(_described(raised), started, permanent=permanent)
            case _:
                return self._released(started)

    def _context(self, attempt: int) -> JobContext:
        return JobContext(
            id=self._work.subject,
            name=self._ready.name,
            attempt=attempt,
            max_attempts=self._ready.max_attempts,
            correlationid=self._work.correlationid,
            ps=self._station.ps,
            loop=asyncio.get_running_loop(),
            stopping=self._execution.stopping,
        )

    # -- ending ------------------------------------------------------------------------------

    def _completed(self, value: Any, started: Started) -> Event:
        try:
            result = _result(value)
        except Exception as error:  # noqa: BLE001 - becomes the job's error
            return self._failed(_described(error, trace=False), started, permanent=True)
        return JobCompleted(attempt=started.attempt, result=result)

    def _failed(
        self, error: JobError, started: Started, *, permanent: bool
    ) -> JobRetrying | JobFailed:
        return after_failure(
            error,
            permanent=permanent,
            attempt=started.attempt,
            max_attempts=self._ready.max_attempts,
            backoff=self._ready.backoff,
            now=datetime.now(UTC),
            jitter=random.random(),
        )

    def _released(self, started: Started) -> JobReleased:
        return JobReleased(
            attempt=started.attempt,
            worker=self._station.worker,
            item=self._item,
            reason="the worker shuts down",
        )

    async def _store(self, started: Started, end: Event) -> None:
        recorded = await self._stored(end, head_of(started.recorded))
        if isinstance(end, JobRetrying):
            await self._journal.wake_at(end.run_at, recorded)
        await self._answer(NAK if isinstance(end, JobReleased) else ACK)

    async def _stored(self, end: Event, head: Head) -> Recorded:
        """Store the end for as long as that takes: the work is done, and the fence is safe."""
        while True:
            try:
                return await self._journal.append((end,), head)
            except Conflict as error:
                raise LeaseLost(
                    f"The outcome of job {self._work.subject} is refused: it was cancelled, or "
                    "another worker took it over when this one's lease ran out."
                ) from error
            except Unavailable as error:
                log.warning("job %s ended and cannot say so yet: %s", self._work.subject, error)
                await asyncio.sleep(RETRY)

    async def _answer(self, answer: bytes) -> None:
        await self._station.ps.session.bus.publish(self._reply, answer)


def _result(value: Any) -> msgspec.Raw:
    result = msgspec.json.encode(value)
    if len(result) > MAX_INLINE:
        raise TooLarge(
            f"The result has {len(result)} bytes and a job keeps at most {MAX_INLINE}; "
            "store it elsewhere and return where."
        )
    return msgspec.Raw(result)


def _described(error: BaseException, *, trace: bool = True) -> JobError:
    text = "".join(traceback.format_exception(error)) if trace else ""
    return JobError(
        type=type(error).__name__,
        message=_clean(str(error))[:MAX_MESSAGE],
        traceback=_clean(text)[-MAX_TRACEBACK:],
    )


def _clean(text: str) -> str:
    """Without lone surrogates, which JSON cannot carry."""
    return text.encode("utf-8", "replace").decode()
