"""What follows in memory from the state of a workflow, and from the end of one of its jobs.

Never decides.
"""

from __future__ import annotations

from typing import Any

from penstock.client.testing.session import MemorySession
from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import NotFound, PenstockError, from_problem
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import SERVICE, EnqueueJob
from penstock.contracts.workflow_state import WorkflowState
from penstock.contracts.workflows import AdvanceWorkflow, Step
from penstock.infra.sender import Cause
from penstock.jobs.workflow_jobs import (
    asked,
    cancelling,
    enqueueing,
    gone,
    how_it_ended,
    of_another,
    under_way,
)
from penstock.jobs.workflow_payload import filled


class MemoryWorkflows:
    """All workflows of one system."""

    def __init__(self, session: MemorySession) -> None:
        self._session = session
        self._log = session.logs[SERVICE]

    def follow(self, id: str, command: Envelope) -> None:
        """Do what the command asks for, if it is a workflow's."""
        state = self._log.states.get(id)
        if not isinstance(state, WorkflowState):
            return
        if state.is_over:
            if state.ended_by == command.id:
                self._cancel(state, command)
            return
        for key, run in state.runs.items():
            if run.begun_by == command.id:
                self._begin(state, state.step(key), command)
        now = self._log.states[id]
        if now.is_over:  # by a job that could not be enqueued
            self._cancel(state, command)

    def tell(self, job: JobState) -> None:
        """Let the workflow of a job that is over know."""
        if not job.is_over or job.discarded or job.origin is None or job.origin.workflow is None:
            return
        last = self._log.last(job.id)
        told = how_it_ended(job, self._returned(job.id))
        self._session.carry_out(told, job.origin.workflow, f"{last.id}:advance", _by(last))

    def _begin(self, state: WorkflowState, step: Step, command: Envelope) -> None:
        ids, wanted = state.job_ids(step.key), state.under_way(step.key)
        try:
            results = {key: self._result(state, key) for key in sorted(asked(step))}
        except NotFound as error:
            for index in wanted:
                self._not_enqueued(state, ids[index], error, command)
            return
        items = results[step.each] if isinstance(step.each, str) else step.each
        for index in wanted:
            item = items[index] if items is not None else None
            try:
                payload = filled(step.payload, results, item, index)
                self._enqueue(enqueueing(state, step, payload), ids[index], command)
            except PenstockError as error:
                self._not_enqueued(state, ids[index], error, command)

    def _enqueue(self, job: EnqueueJob, id: str, command: Envelope) -> None:
        """Raises what it is refused with."""
        outcome = self._session.carry_out(job, id, f"{id}:enqueue", _by(command))
        if outcome.problem is not None:
            raise from_problem(outcome.problem)
        if refusal := of_another(id, self._log.states[id].origin, job):
            raise refusal

    def _not_enqueued(
        self, state: WorkflowState, id: str, error: PenstockError, command: Envelope
    ) -> None:
        told = AdvanceWorkflow(job=id, how="failed", error=str(error))
        self._session.carry_out(told, state.id, f"{id}:not-enqueued", _by(command))

    def _result(self, state: WorkflowState, key: str) -> Any:
        """What a completed step returned; of one with `each`, the list of it. Raises NotFound."""
        found = [self._returned(id) for id in state.job_ids(key)]
        if state.step(key).each is not None:
            return found
        return found[0] if found else None

    def _returned(self, id: str) -> Any:
        job = self._log.states.get(id)
        if job is None:
            raise gone(id)
        return job.result if job.state == "completed" else None

    def _cancel(self, state: WorkflowState, command: Envelope) -> None:
        for id in under_way(state):
            cancel = cancelling(state)
            self._session.carry_out(cancel, id, f"{command.id}:{id}:cancel", _by(command))


def _by(cause: Envelope) -> Cause:
    return Cause(correlationid=cause.correlationid, event=cause, actor=cause.actor)
