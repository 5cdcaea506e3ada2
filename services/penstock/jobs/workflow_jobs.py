"""A workflow's jobs: what is enqueued for a step, and what is told of the end of one. Pure.

Who enqueues them is `workflow_effects`, and who tells of them is `workflow_telling`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.contracts.errors import NotFound, Refused
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import CancelJob, EnqueueJob, Origin
from penstock.contracts.workflow_state import LONGEST_ERROR, WorkflowState, dependencies
from penstock.contracts.workflows import AdvanceWorkflow, End, Step


def enqueueing(state: WorkflowState, step: Step, payload: dict[str, Any]) -> EnqueueJob:
    """The command that enqueues a job of `step`, with its payload filled in."""
    return EnqueueJob(
        name=step.name,
        payload=payload,
        queue=step.queue,
        priority=step.priority,
        delay=step.delay,
        max_attempts=step.max_attempts,
        backoff=step.backoff,
        tags=state.tags,
        rules=step.rules,
        origin=Origin(workflow=state.id),
    )


def asked(step: Step) -> set[str]:
    """The keys of the steps whose results it is given."""
    return dependencies(msgspec.structs.replace(step, after=()))


def under_way(state: WorkflowState) -> list[str]:
    """The ids of all jobs that are marked as under way, which they stay where it is over."""
    return [
        ids[index]
        for key in state.runs
        if (ids := state.job_ids(key))
        for index in state.under_way(key)
    ]


def cancelling(state: WorkflowState) -> CancelJob:
    """What ends its jobs once it is over."""
    return CancelJob(reason=f"{state.id} is over")


def of_another(id: str, found: Origin | None, job: EnqueueJob) -> Refused | None:
    """Why the job `id` that was found cannot be the workflow's `job`, if so."""
    if found == job.origin:
        return None
    return Refused(f"There is a job {id!r} already, which is not of this workflow.")


def gone(id: str) -> NotFound:
    """Why nobody can tell what the job returned."""
    return NotFound(
        f"What the job {id!r} returned was archived or erased before this step began; have jobs "
        "archived later than workflows take.",
        id=id,
    )


def how_it_ended(job: JobState, result: Any, unusable: str | None = None) -> AdvanceWorkflow:
    """What a workflow is told of a job that is over; `unusable` says why nobody can read a result
    that it had."""
    error = unusable or (job.error.message if job.error else job.reason)
    return AdvanceWorkflow(
        job=job.id,
        how=msgspec.convert(job.state, End),
        size=len(result) if isinstance(result, list) else None,
        error=error[:LONGEST_ERROR] if error else None,
    )
