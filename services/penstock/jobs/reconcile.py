"""Puts right, after a restore, what is beside the events of jobs: work items and timers.

The events come from a later instant than they do. Whoever is quicker, a worker or this, wins by
the fence. Never does anything to a job that is over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import apsw
import msgspec

from penstock.contracts.envelope import Envelope, decode, unwrap, wrap
from penstock.contracts.errors import Conflict, InvalidMessage
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import JobReady, JobReleased, JobStarted
from penstock.infra.bus import Bus, Stored
from penstock.infra.deciding.decider import Aggregate, Load
from penstock.infra.event_log import EventLog
from penstock.infra.views.live_view import LiveView
from penstock.jobs import schedule_view
from penstock.jobs.dispatch import Dispatch
from penstock.jobs.schedule_runner import ScheduleRunner

log = logging.getLogger(__name__)

PAGE = 1000
AT_ONCE = 32
Page = Callable[[apsw.Connection, str], list[str]]  # the ids behind one
REASON = "Its work item was not in the backup that was restored."


class Reconciler:
    """`run` may be called again, and beside workers that run already. `model` gives the view that
    is in use."""

    def __init__(
        self,
        bus: Bus,
        event_log: EventLog,
        model: Callable[[], LiveView[Any]],
        load: Load[Any],
        dispatch: Dispatch,
        schedules: ScheduleRunner,
    ) -> None:
        self._bus = bus
        self._log = event_log
        self._model = model
        self._load = load
        self._dispatch = dispatch
        self._schedules = schedules
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """See that every job that is not over can go on, and every schedule. Raises Unavailable or
        StreamError.
        """
        await self._each(_unfinished, self._one)
        await self._each(schedule_view.ids, self._schedules.reconcile)

    async def _each(self, page: Page, settle: Callable[[str], Awaitable[None]]) -> None:
        async def bounded(id: str) -> None:
            async with self._slots:
                await settle(id)

        after = ""
        while True:
            _, ids = await self._model().read(page, after)
            if not ids:
                return
            await asyncio.gather(*map(bounded, ids))
            after = ids[-1]

    async def _one(self, id: str) -> None:
        job = await self._load(id)
        if job.state is None or job.last is None or job.state.is_over:
            return
        if self._is_of(await self._item(job.state), job.sequence, job.last):
            return
        if job.state.state == "processing":
            job = await self._released(job, job.last)
        if job.last is not None:
            await self._dispatch.effect(job, job.last)

    async def _item(self, state: JobState) -> Stored | None:
        subject = self._bus.subjects.work(state.queue, state.priority, state.id)
        stream = self._bus.subjects.stream("work")
        found = await self._bus.direct_get(stream, {"last_by_subj": subject})
        return found[0] if found else None

    def _is_of(self, item: Stored | None, sequence: int, last: Envelope) -> bool:
        """Whether `item` lets the job go on whose last event is `last`, at `sequence`.

        It does if it was made for that event, or if it is the one that its worker held.
        """
        if item is None:
            return False
        match unwrap(last):
            case JobStarted(item=held) | JobReleased(item=held) if held == item.sequence:
                return True
            case _:
                return _made_for(item) == sequence

    async def _released(self, job: Aggregate[JobState], last: Envelope) -> Aggregate[JobState]:
        """The job given back for its worker, which cannot know that its item is gone."""
        started = unwrap(last)
        if not isinstance(started, JobStarted):
            return job
        event = wrap(
            JobReleased(
                attempt=started.attempt, worker=started.worker, item=started.item, reason=REASON
            ),
            id=f"{job.id}:{job.sequence}:restored",
            subject=job.id,
            time=datetime.now(UTC),
            correlationid=last.correlationid,
            cause=last,
            actor=last.actor,
            version=job.version + 1,
            traceparent=last.traceparent,
        )
        try:
            await self._log.append([event], expected=job.sequence)
        except Conflict:
            log.info("job %s went on by itself", job.id)
        return await self._load(job.id)


def _unfinished(db: apsw.Connection, after: str) -> list[str]:
    rows = db.execute(
        """SELECT id FROM listed WHERE id > ? AND state IN ('pending', 'retrying', 'processing')
           ORDER BY id LIMIT ?""",
        (after, PAGE),
    )
    return [id for (id,) in rows]


def _made_for(item: Stored) -> int:
    """The sequence of the event that a work item was made for; 0 if it is none."""
    try:
        ready: msgspec.Struct = unwrap(decode(item.data))
    except InvalidMessage:
        return 0
    return ready.sequence if isinstance(ready, JobReady) else 0
