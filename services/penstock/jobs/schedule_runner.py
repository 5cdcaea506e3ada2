"""Has schedules tick: sets their timers, and enqueues the jobs of ticks whose time has come.

What ticks is decided once, by the event ScheduleTicked; everything after it may be done again, and
is, by whoever gets the same timer. A timer is set only behind the jobs of the ticks before it, so
that none is forgotten: it carries the sequence of the state that it was set for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from penstock.contracts.answers import Outcome
from penstock.contracts.envelope import Envelope, encode, unwrap, wrap
from penstock.contracts.errors import (
    Archived,
    Conflict,
    Duplicate,
    Erased,
    PenstockError,
    Unavailable,
)
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import SERVICE, JobDue, timer
from penstock.contracts.schedules import (
    ScheduleState,
    ScheduleTicked,
    TriggerSchedule,
    tick_id,
    trigger_id,
)
from penstock.infra.bus import Bus
from penstock.infra.deciding.aggregate import Aggregate
from penstock.infra.deciding.decider import Load
from penstock.infra.event_log import EventLog
from penstock.infra.sender import Cause, Sender
from penstock.infra.timers import Timers
from penstock.jobs.schedule import enqueueing, evolve, tick
from penstock.jobs.schedule_ticks import delay_of

log = logging.getLogger(__name__)

RECENT = timedelta(days=7)
Handle = Callable[[Envelope], Awaitable[Outcome]]


class ScheduleRunner:
    """What becomes of schedules outside of their events. `handle` carries out a command."""

    def __init__(self, bus: Bus, event_log: EventLog, load: Load[Any], handle: Handle) -> None:
        self._log = event_log
        self._load = load
        self._handle = handle
        self._timers = Timers(bus, SERVICE)
        self._sender = Sender(bus)

    async def effect(self, schedule: Aggregate[ScheduleState], command: Envelope) -> None:
        """Do what follows from a command and the schedule's present state; see `Decider`."""
        state = schedule.state
        if state is not None and isinstance(unwrap(command), TriggerSchedule):
            job = trigger_id(state.name, command.id)
            await self._enqueue(state, job, 0.0, command, command.correlationid)
        await self._settle(schedule)

    async def due(self, id: str, due: JobDue) -> None:
        """The timer of a schedule went off. Raises Unavailable: let it come again then."""
        schedule = await self._load(id)
        if 0 < schedule.sequence < due.sequence:
            raise Unavailable("The replica that was asked for the schedule's events lags behind.")
        if schedule.sequence == due.sequence:
            schedule = await self._tick(schedule)
        await self._enqueue_due(schedule)
        await self._set_timer(schedule)

    async def reconcile(self, id: str) -> None:
        """Put right what is beside the events of a schedule after a restore."""
        await self._settle(await self._load(id))

    async def _settle(self, schedule: Aggregate[ScheduleState]) -> None:
        """Finish a tick that a crash may have left, and set the timer of the next.

        Not if it ticked so long ago that its jobs may have come and gone.
        """
        ticked = schedule.state.ticked if schedule.state else None
        if ticked and datetime.now(UTC) - ticked < RECENT:
            await self._enqueue_due(schedule)
        await self._set_timer(schedule)

    async def _tick(self, schedule: Aggregate[ScheduleState]) -> Aggregate[ScheduleState]:
        """The schedule after the ticks that are due, which are now decided."""
        state, now = schedule.state, datetime.now(UTC)
        ticked = tick(state, now, busy=await self._busy(state)) if state else None
        if state is None or ticked is None:
            return schedule
        event = _ticked(schedule, state.name, ticked, now)
        try:
            appended = await self._log.append([event], expected=schedule.sequence)
        except Conflict:
            return await self._load(schedule.id)
        if appended.again:  # as another instance decided, perhaps a moment earlier
            return await self._load(schedule.id)
        after = evolve(state, ticked, event)
        return Aggregate(
            schedule.id, after, event.version, appended.sequence, schedule.commands, event
        )

    async def _busy(self, state: ScheduleState) -> bool:
        if state.overlap == "allow" or state.last_job is None:
            return False
        job = (await self._load(state.last_job)).state
        return isinstance(job, JobState) and not job.is_over

    async def _set_timer(self, schedule: Aggregate[ScheduleState]) -> None:
        state, last = schedule.state, schedule.last
        if state is None or last is None or state.next is None:
            await self._timers.cancel(schedule.id)
        else:
            body = encode(timer(last, schedule.sequence))
            await self._timers.set(schedule.id, state.next, body)

    async def _enqueue_due(self, schedule: Aggregate[ScheduleState]) -> None:
        state, last = schedule.state, schedule.last
        if state is None or last is None:
            return
        jobs = {tick_id(state.name, at): at for at in state.due}
        now, jitter = datetime.now(UTC), state.timing.jitter
        enqueued = await asyncio.gather(
            *(
                self._enqueue(state, job, delay_of(job, at, jitter, now), last, job)
                for job, at in jobs.items()
            ),
            return_exceptions=True,  # all are waited for
        )
        for failed in enqueued:
            if isinstance(failed, BaseException):
                raise failed

    async def _enqueue(
        self, state: ScheduleState, job: str, delay: float, cause: Envelope, flow: str
    ) -> None:
        """Enqueue a job once. What is refused is sent as anybody's command would be, and so
        becomes a dead letter; the schedule goes on.
        """
        command = enqueueing(state.job, state.name, delay)
        envelope = wrap(
            command,
            id=job,
            subject=job,
            time=datetime.now(UTC),
            correlationid=flow,
            cause=cause,
            actor=cause.actor,
            traceparent=cause.traceparent,
        )
        try:
            await self._handle(envelope)
        except (Unavailable, Conflict):
            raise
        except (Archived, Erased):
            log.info("the job %s is there no more", job)
        except Duplicate as other:
            log.info("the job %s passes: %s", job, other)
        except PenstockError as refusal:
            log.warning("the job %s is refused: %s", job, refusal)
            by = Cause(correlationid=flow, event=cause, actor=cause.actor)
            await self._sender.post(command, id=job, command_id=job, cause=by)


def _ticked(
    schedule: Aggregate[ScheduleState], name: str, ticked: ScheduleTicked, now: datetime
) -> Envelope:
    """The event. Nothing but time caused it: it begins a flow, that of its last tick's job."""
    job = tick_id(name, ticked.through)
    return wrap(
        ticked,
        id=f"{schedule.id}:{job}",
        subject=schedule.id,
        time=now,
        correlationid=job,
        actor=schedule.id,
        version=schedule.version + 1,
    )
