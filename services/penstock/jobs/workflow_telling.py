"""Tells a workflow how one of its jobs ended. Never what it returned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from penstock.contracts.envelope import Envelope, type_of
from penstock.contracts.errors import NotFound, TooLarge
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import CancelJob
from penstock.contracts.workflow_state import MOST_ENDS, advance_id, told_together
from penstock.contracts.workflows import AdvanceWorkflow
from penstock.infra.bus import Bus
from penstock.infra.deciding.aggregate import Aggregate
from penstock.infra.gathering import Gathering
from penstock.infra.sender import Cause, Sender
from penstock.jobs.workflow import Command
from penstock.jobs.workflow_jobs import how_it_ended
from penstock.jobs.workflow_results import StepResults

PAUSE = 0.02  # seconds between two commands to one workflow, which takes one after the other
CANCEL = str(type_of(CancelJob))
OF_WORKFLOWS = {str(type_of(command)) for command in get_args(Command)}
Ended = tuple[AdvanceWorkflow, Envelope]


class Telling:
    """Jobs of no workflow cost nothing, and those that workers end are told of by the workers, but
    for those with gates or large results. Many that end together are told of together: each command
    to a workflow has to wait for the one before.
    """

    def __init__(self, bus: Bus, results: StepResults) -> None:
        self._sender = Sender(bus)
        self._results = results
        self._ends: Gathering[Ended] = Gathering(self._post, most=MOST_ENDS, pause=PAUSE)

    async def effect(self, job: Aggregate[JobState], command: Envelope) -> None:
        """Let the workflow of a job that is over know; see `Decider`."""
        state, last = job.state, job.last
        if command.type == CANCEL and command.causationtype in OF_WORKFLOWS:
            return  # the workflow has it cancelled since it is over itself
        if state is None or last is None or not state.is_over or state.discarded:
            return
        if state.origin is None or (workflow := state.origin.workflow) is None:
            return
        await self._ends.say(workflow, (await self.told(state), last))

    async def _post(self, workflow: str, ends: Sequence[Ended]) -> None:
        last = ends[0][1]
        why = Cause(correlationid=last.correlationid, event=last, actor=last.actor)
        command = told_together([told for told, _ in ends])
        command_id = advance_id([last.id for _, last in ends])
        await self._sender.post(command, id=workflow, command_id=command_id, cause=why)

    async def told(self, job: JobState) -> AdvanceWorkflow:
        """What there is to tell of a job that is over. Raises Unavailable or Timeout."""
        try:
            return how_it_ended(job, await self._results.of_job(job))
        except (NotFound, TooLarge) as unusable:
            return how_it_ended(job, None, str(unusable))
