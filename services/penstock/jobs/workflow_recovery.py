"""Sets workflows going that stand still: a job was not enqueued, or its end was not told.

That is so after a restore, or when a command was lost or became a dead letter. Never decides.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from penstock.contracts.answers import Outcome
from penstock.contracts.envelope import Envelope, wrap
from penstock.contracts.job_state import JobState
from penstock.contracts.workflow_state import WorkflowState
from penstock.contracts.workflows import AdvanceWorkflow
from penstock.infra.deciding.aggregate import Aggregate
from penstock.infra.deciding.decider import Load
from penstock.infra.repeated import Repeated
from penstock.infra.views.live_view import LiveView
from penstock.jobs import workflow_view
from penstock.jobs.at_once import each
from penstock.jobs.workflow_effects import WorkflowEffects
from penstock.jobs.workflow_jobs import under_way
from penstock.jobs.workflow_telling import Telling

log = logging.getLogger(__name__)

EVERY = 60.0  # seconds between two looks
LATE = 60.0  # seconds without an event from which a workflow may stand still

Handle = Callable[[Envelope], Awaitable[Outcome]]


class WorkflowRecovery:
    """`load` and `handle` are the service's own. May run for any workflow, and again."""

    def __init__(
        self, effects: WorkflowEffects, telling: Telling, load: Load[Any], handle: Handle
    ) -> None:
        self._effects = effects
        self._telling = telling
        self._load = load
        self._handle = handle

    async def recover(self, id: str) -> None:
        """Enqueue its missing jobs, and tell it of those that ended. Raises Unavailable, Timeout
        or Conflict.
        """
        workflow = await self._load(id)
        state, last = workflow.state, workflow.last
        if not isinstance(state, WorkflowState) or last is None or state.is_over:
            return
        for key in state.runs:
            await self._recover(state, key, last)

    async def _recover(self, state: WorkflowState, key: str, last: Envelope) -> None:
        ids = state.job_ids(key)
        missing: list[int] = []

        async def look(index: int) -> None:
            job = await self._load(ids[index])
            if (job.state is None and job.tombstone is None) or not _is_of(state, job):
                missing.append(index)
            elif (told := await self._told(job)) is not None:
                await self._tell(state, told, last)

        await each(state.under_way(key), look)
        if missing:
            await self._effects.enqueue(state, {key: sorted(missing)}, last)

    async def _told(self, job: Aggregate[Any]) -> AdvanceWorkflow | None:
        if job.tombstone is not None:
            why = f"The job {job.id!r} was archived or erased before its workflow knew its end."
            return AdvanceWorkflow(job=job.id, how="failed", error=why)
        assert isinstance(job.state, JobState)
        return await self._telling.told(job.state) if job.state.is_over else None

    async def _tell(self, state: WorkflowState, told: AdvanceWorkflow, last: Envelope) -> None:
        # Not the command that was lost: it may have become a dead letter, or be known as refused.
        command = wrap(
            told,
            id=f"{last.id}:{told.job}:recovered",
            subject=state.id,
            time=datetime.now(UTC),
            correlationid=last.correlationid,
            cause=last,
            actor=last.actor,
            traceparent=last.traceparent,
        )
        await self._handle(command)


def _is_of(state: WorkflowState, job: Aggregate[Any]) -> bool:
    """Whether it is the workflow's own; of one that is gone nobody knows."""
    if not isinstance(job.state, JobState):
        return job.tombstone is not None
    return job.state.origin is not None and job.state.origin.workflow == state.id


class StandingStill:
    """Looks at the workflows that have had no event for `late` seconds, in the view that `model`
    gives. One whose jobs all wait or run costs two queries.
    """

    def __init__(
        self,
        model: Callable[[], LiveView[Any]],
        recovery: WorkflowRecovery,
        *,
        late: float = LATE,
    ) -> None:
        self._model = model
        self._recovery = recovery
        self._late = late

    async def look(self) -> None:
        """Look once. Raises as `recover` does."""
        before, after = time.time() - self._late, ""
        while True:
            _, found = await self._model().read(workflow_view.unmoved, (before, after))
            if not found:
                return
            for state in found:
                if await self._stands_still(state):
                    log.warning("%s has not gone on in time and is set going again", state.id)
                    await self._recovery.recover(state.id)
            after = found[-1].id

    async def _stands_still(self, state: WorkflowState) -> bool:
        """Whether some of its jobs are not there, or over."""
        wanted = under_way(state)
        _, unfinished = await self._model().read(workflow_view.unfinished, wanted)
        return unfinished < len(wanted)

    def part(self) -> Repeated:
        """The part of the service that looks again and again."""
        return Repeated("search for workflows that stand still", self.look, every=EVERY, first=LATE)
