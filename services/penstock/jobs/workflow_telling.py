"""Tells a workflow how one of its jobs ended. Never what it returned."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

from msgspec.structs import replace

from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import NotFound, TooLarge
from penstock.contracts.job_state import JobState
from penstock.contracts.workflow_state import is_mapped
from penstock.contracts.workflows import AdvanceWorkflow, JobEnded
from penstock.infra.bus import Bus
from penstock.infra.deciding.aggregate import Aggregate
from penstock.infra.sender import Cause, Sender
from penstock.jobs.workflow_jobs import how_it_ended
from penstock.jobs.workflow_results import StepResults

MOST = 100  # ends that are told by one command; with all steps they fit into one append
TOGETHER = 0.02  # seconds that the end of a mapped step's job waits for others


class _Ends:
    """Ends that are told together."""

    def __init__(self) -> None:
        self.told: list[tuple[AdvanceWorkflow, Envelope]] = []
        self.sent: asyncio.Task[None] | None = None


class Telling:
    """Jobs of no workflow cost nothing. The many jobs of a mapped step are told of together: each
    command to a workflow has to wait for the one before.
    """

    def __init__(self, bus: Bus, results: StepResults) -> None:
        self._sender = Sender(bus)
        self._results = results
        self._waiting: dict[str, _Ends] = {}

    async def effect(self, job: Aggregate[JobState], _: Envelope) -> None:
        """Let the workflow of a job that is over know; see `Decider`."""
        state, last = job.state, job.last
        if state is None or last is None or not state.is_over or state.discarded:
            return
        if state.origin is None or (workflow := state.origin.workflow) is None:
            return
        told = await self.told(state)
        if is_mapped(workflow, state.id):
            await self._together(workflow, told, last)
        else:
            await self._post(workflow, [(told, last)])

    async def _together(self, workflow: str, told: AdvanceWorkflow, last: Envelope) -> None:
        ends = self._waiting.get(workflow)
        if ends is None or len(ends.told) == MOST:
            ends = self._waiting[workflow] = _Ends()
            ends.sent = asyncio.create_task(self._soon(workflow, ends), name="ends of jobs")
        ends.told.append((told, last))
        assert ends.sent is not None
        await asyncio.shield(ends.sent)  # the others wait for it as well

    async def _soon(self, workflow: str, ends: _Ends) -> None:
        await asyncio.sleep(TOGETHER)
        if self._waiting.get(workflow) is ends:
            del self._waiting[workflow]
        await self._post(workflow, ends.told)

    async def _post(self, workflow: str, ends: Sequence[tuple[AdvanceWorkflow, Envelope]]) -> None:
        (first, last), *others = ends
        more = tuple(
            JobEnded(job=told.job, how=told.how, size=told.size, error=told.error)
            for told, _ in others
        )
        why = Cause(correlationid=last.correlationid, event=last, actor=last.actor)
        told = replace(first, more=more)
        await self._sender.post(told, id=workflow, command_id=_command_id(ends), cause=why)

    async def told(self, job: JobState) -> AdvanceWorkflow:
        """What there is to tell of a job that is over. Raises Unavailable or Timeout."""
        try:
            return how_it_ended(job, await self._results.of_job(job))
        except (NotFound, TooLarge) as unusable:
            return how_it_ended(job, None, str(unusable))


def _command_id(ends: Sequence[tuple[AdvanceWorkflow, Envelope]]) -> str:
    """Another one for other ends: told again, they may be together with others."""
    (_, first), *others = ends
    if not others:
        return f"{first.id}:advance"
    events = "\0".join(last.id for _, last in others)
    return f"{first.id}:advance:{hashlib.blake2b(events.encode(), digest_size=16).hexdigest()}"
