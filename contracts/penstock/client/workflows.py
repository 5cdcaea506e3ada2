"""`ps.workflows`: jobs that depend on each other, as one. Never runs any of them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from penstock.client.jobs import Jobs
from penstock.client.session import Session, state_of
from penstock.client.workflow_steps import Flow
from penstock.contracts.answers import HistoryEntry
from penstock.contracts.errors import JobFailed, Timeout
from penstock.contracts.jobs import SERVICE
from penstock.contracts.workflow_state import ListWorkflows, State, WorkflowState
from penstock.contracts.workflows import (
    PREFIX,
    CancelWorkflow,
    OnFailure,
    RestartWorkflow,
    StartWorkflow,
    Step,
)

AT_ONCE = 32  # jobs asked for their results at a time


class Workflows:
    """Workflows, by an id that is given or made, with or without `workflow:` before it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._jobs = Jobs(session)

    async def start(
        self,
        steps: Sequence[Step] | Flow,
        *,
        id: str | None = None,
        on_failure: OnFailure = "stop",
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
        command_id: str | None = None,
    ) -> WorkflowState:
        """Run the steps, each after those that it depends on.

        Once a step fails, "stop" cancels the others, and "continue" runs what does not depend on
        it. The same id and steps again give the workflow that there is. Raises InvalidMessage for
        steps that cannot run, Refused if `id` is another workflow's, TooLarge.
        """
        command = StartWorkflow(
            steps=tuple(steps.steps if isinstance(steps, Flow) else steps),
            on_failure=on_failure,
            metadata=dict(metadata or {}),
            tags=tuple(tags),
        )
        id = _full(id or command_id or uuid.uuid4().hex)
        outcome = await self._session.command(command, id=id, command_id=command_id)
        return state_of(outcome, WorkflowState)

    async def get(self, id: str, *, at: str | int | None = None) -> WorkflowState:
        """The workflow now, or as it was `at` a sequence or time. Raises NotFound."""
        return await self._session.get(SERVICE, _full(id), WorkflowState, at=at)

    async def watch(self, id: str) -> AsyncIterator[WorkflowState]:
        """The present state and each newer one, to the end of the workflow."""
        async for workflow in self._session.watch(SERVICE, _full(id), WorkflowState):
            yield workflow
            if workflow.is_over:
                return

    async def result(self, id: str, *, timeout: float = 60) -> Any:
        """What the last step returned, once it has; with several last steps, by their keys.

        `timeout` in seconds. Raises JobFailed for a workflow that failed or was cancelled, Timeout
        if it goes on for longer.
        """
        workflow = await self._completed(id, timeout)
        found = {key: await self._of_step(workflow, key) for key in workflow.last_steps}
        return found.popitem()[1] if len(found) == 1 else found

    async def results(self, id: str, *, timeout: float = 60) -> dict[str, Any]:
        """What each step returned, by its key; raises as `result` does."""
        workflow = await self._completed(id, timeout)
        return {step.key: await self._of_step(workflow, step.key) for step in workflow.steps}

    async def cancel(
        self, id: str, reason: str | None = None, *, command_id: str | None = None
    ) -> WorkflowState:
        """Cancel the workflow and all of its jobs. Raises NotFound, or Refused once it is over."""
        command = CancelWorkflow(reason=reason)
        outcome = await self._session.command(command, id=_full(id), command_id=command_id)
        return state_of(outcome, WorkflowState)

    async def restart(
        self, id: str, reason: str | None = None, *, command_id: str | None = None
    ) -> WorkflowState:
        """Run what failed, was cancelled or never ran, again; what is completed stays so.

        Raises NotFound, or Refused if it is completed.
        """
        command = RestartWorkflow(reason=reason)
        outcome = await self._session.command(command, id=_full(id), command_id=command_id)
        return state_of(outcome, WorkflowState)

    async def history(self, id: str) -> list[HistoryEntry]:
        """Every event: what, who, why, when. Raises NotFound."""
        return await self._session.history(SERVICE, _full(id))

    async def list(
        self, *, state: State | None = None, limit: int = 100, before: str | None = None
    ) -> list[WorkflowState]:
        """Workflows, newest first; `before` is the last one's id, to page on."""
        question = ListWorkflows(state=state, limit=limit, before=before)
        found, _ = await self._session.ask(SERVICE, "workflows", question, list[WorkflowState])
        return found

    async def _completed(self, id: str, timeout: float) -> WorkflowState:
        try:
            async with asyncio.timeout(timeout):
                workflow = [state async for state in self.watch(id)][-1]
        except TimeoutError:
            raise Timeout(
                f"The workflow {id!r} did not end within {timeout} s; it may still do so.", id=id
            ) from None
        if workflow.state != "completed":
            raise _failure(workflow)
        return workflow

    async def _of_step(self, workflow: WorkflowState, key: str) -> Any:
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(id: str) -> Any:
            async with slots:
                job = await self._jobs.get(id)
                if job.stored is None:
                    return job.result
                return await self._jobs.result(id)

        found = await asyncio.gather(*map(one, workflow.job_ids(key)))
        if workflow.step(key).each is not None:
            return found
        return found[0] if found else None


def _failure(workflow: WorkflowState) -> JobFailed:
    failed = [key for key, run in workflow.runs.items() if run.state == "failed"]
    if workflow.state == "cancelled":
        why = workflow.reason or "no reason was given"
    else:
        why = "; ".join(f"{key}: {workflow.runs[key].error or 'no message'}" for key in failed)
    return JobFailed(
        f"The workflow {workflow.id!r} {workflow.state}: {why}",
        id=workflow.id,
        state=workflow.state,
    )


def _full(id: str) -> str:
    return id if id.startswith(PREFIX) else PREFIX + id
