"""Puts right, after a restore, what is beside the events of jobs: work items and timers.

The events come from a later instant than they do. Whoever is quicker, a worker or this, wins by
the fence. Never does anything to a job that is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import apsw

from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import JobStarted
from penstock.infra.bus import Bus, Stored
from penstock.infra.deciding.decider import Load
from penstock.infra.event_log import EventLog
from penstock.infra.views.live_view import LiveView
from penstock.jobs import schedule_view, workflow_view
from penstock.jobs.dispatch import Dispatch
from penstock.jobs.giving_back import release
from penstock.jobs.items import history_of, is_of, standing
from penstock.jobs.schedule_runner import ScheduleRunner
from penstock.jobs.workflow_recovery import WorkflowRecovery

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
        workflows: WorkflowRecovery,
    ) -> None:
        self._bus = bus
        self._log = event_log
        self._model = model
        self._load = load
        self._dispatch = dispatch
        self._schedules = schedules
        self._workflows = workflows
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """See that every job that is not over can go on, and every schedule and workflow. Raises
        Unavailable or StreamError.
        """
        await self._each(_unfinished, self.job)
        await self._each(schedule_view.ids, self._schedules.reconcile)
        await self._each(workflow_view.under_way, self._workflows.recover)

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

    async def job(self, id: str) -> None:
        """See that one job can go on, if it is not over. Raises as `run`."""
        job = await self._load(id)
        if job.state is None or job.last is None or job.state.is_over:
            return
        history = await history_of(job, self._log)
        who = standing(history)
        item = await self._item(job.state)
        if item is not None and is_of(item, job.sequence, who):
            return
        if isinstance(who, JobStarted):
            await release(self._log, history[-1], who, "restored", REASON)
            job = await self._load(id)
        if job.last is not None:
            await self._dispatch.effect(job, job.last)

    async def _item(self, state: JobState) -> Stored | None:
        subject = self._bus.subjects.work(state.queue, state.priority, state.id)
        stream = self._bus.subjects.stream("work")
        found = await self._bus.direct_get(stream, {"last_by_subj": subject})
        return found[0] if found else None


def _unfinished(db: apsw.Connection, after: str) -> list[str]:
    rows = db.execute(
        """SELECT id FROM listed WHERE id > ? AND state IN ('pending', 'retrying', 'processing')
           ORDER BY id LIMIT ?""",
        (after, PAGE),
    )
    return [id for (id,) in rows]
