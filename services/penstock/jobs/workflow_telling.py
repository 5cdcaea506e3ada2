"""Tells a workflow how one of its jobs ended. Never what it returned."""

from __future__ import annotations

import msgspec

from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import NotFound, TooLarge
from penstock.contracts.job_state import JobState
from penstock.contracts.workflows import AdvanceWorkflow, End
from penstock.infra.bus import Bus
from penstock.infra.deciding.aggregate import Aggregate
from penstock.infra.sender import Cause, Sender
from penstock.jobs.workflow_results import StepResults


class Telling:
    """Jobs of no workflow cost nothing."""

    def __init__(self, bus: Bus, results: StepResults) -> None:
        self._sender = Sender(bus)
        self._results = results

    async def effect(self, job: Aggregate[JobState], _: Envelope) -> None:
        """Let the workflow of a job that is over know; see `Decider`."""
        state, last = job.state, job.last
        if state is None or last is None or not state.is_over or state.discarded:
            return
        if state.origin is None or state.origin.workflow is None:
            return
        why = Cause(correlationid=last.correlationid, event=last, actor=last.actor)
        await self._sender.post(
            await self.told(state),
            id=state.origin.workflow,
            command_id=f"{last.id}:advance",
            cause=why,
        )

    async def told(self, job: JobState) -> AdvanceWorkflow:
        """What there is to tell of a job that is over. Raises Unavailable or Timeout."""
        error = job.error.message if job.error else job.reason
        size = None
        try:
            result = await self._results.of_job(job)
            size = len(result) if isinstance(result, list) else None
        except (NotFound, TooLarge) as unusable:
            error = str(unusable)
        how = msgspec.convert(job.state, End)
        return AdvanceWorkflow(job=job.id, how=how, size=size, error=error)
