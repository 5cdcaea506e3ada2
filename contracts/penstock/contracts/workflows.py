"""Workflows of jobs: their steps, commands and events, version 1. Never any logic.

The state that they make is in `workflow_state`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from penstock.contracts.envelope import command, event
from penstock.contracts.jobs import (
    SERVICE,
    Attempts,
    Backoff,
    Delay,
    Name,
    Priority,
    QueueName,
    Rules,
)

PREFIX = "workflow:"
MAX_STEPS = 2_000
MAX_ELEMENTS = 10_000  # of the list that one step is mapped over

StepKey = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]
OnFailure = Literal["stop", "continue"]
End = Literal["completed", "failed", "cancelled"]


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What all messages here share. States, unlike messages, always show every field."""


class Step(Message, frozen=True, kw_only=True):
    """One job of a workflow; or, with `each`, one for each element of a list.

    It runs once all steps in `after`, and those that it refers to, are completed. In `payload`,
    `{"$result": "key"}` stands for what that step returned, `{"$result": "key", "path": "a.0"}` for
    a part of it; a step with `each` gives the list of its results, in order. `each` is a list, or
    the key of the step that returns it; `{"$item": true}` and `{"$index": true}` stand for the
    element and its number. With `on_failure` "ignore" a failed job counts as if it returned null.
    """

    key: StepKey
    name: Name
    payload: dict[str, Any] = {}
    after: tuple[str, ...] = ()
    each: str | tuple[Any, ...] | None = None
    on_failure: Literal["fail", "ignore"] = "fail"
    queue: QueueName = "default"
    priority: Priority = 5
    delay: Delay = 0.0
    max_attempts: Attempts = 3
    backoff: Backoff = Backoff()
    rules: Rules = Rules()


@command(SERVICE, "start_workflow")
class StartWorkflow(Message, frozen=True, kw_only=True):
    """Run the steps, each after those that it depends on.

    Once a step fails, "stop" cancels the others, and "continue" runs what does not depend on it.
    """

    steps: tuple[Step, ...]
    on_failure: OnFailure = "stop"
    metadata: dict[str, Any] = {}
    tags: tuple[str, ...] = ()


class JobEnded(Message, frozen=True, kw_only=True):
    """A job is over, or could not be enqueued. `size` is the length of a list returned."""

    job: str
    how: End
    size: int | None = None
    error: str | None = None


@command(SERVICE, "advance_workflow")
class AdvanceWorkflow(Message, frozen=True, kw_only=True):
    """One of its jobs is over, or could not be enqueued. `size` is the length of a list returned.

    `more` are others that ended at about the same time. The jobs service sends this to itself, and
    workers send it about the jobs that they end.
    """

    job: str
    how: End
    size: int | None = None
    error: str | None = None
    more: tuple[JobEnded, ...] = ()


@command(SERVICE, "cancel_workflow")
class CancelWorkflow(Message, frozen=True, kw_only=True):
    """Cancel all of its jobs and start no more."""

    reason: str | None = None


@command(SERVICE, "restart_workflow")
class RestartWorkflow(Message, frozen=True, kw_only=True):
    """Run what failed, was cancelled or never ran, again; what is completed stays so."""

    reason: str | None = None


@event(SERVICE, "workflow_started")
class WorkflowStarted(Message, frozen=True, kw_only=True):
    """The workflow begins."""

    steps: tuple[Step, ...]
    on_failure: OnFailure = "stop"
    metadata: dict[str, Any] = {}
    tags: tuple[str, ...] = ()


@event(SERVICE, "workflow_step_started")
class StepStarted(Message, frozen=True, kw_only=True):
    """The jobs of a step are to be enqueued: one, or with `each` so many."""

    key: str
    jobs: int = 1


@event(SERVICE, "workflow_step_ended")
class StepEnded(Message, frozen=True, kw_only=True):
    """One job of a step is over; without `index` the step failed before it had any."""

    key: str
    index: int | None = 0
    how: End
    size: int | None = None
    error: str | None = None


@event(SERVICE, "workflow_steps_started")
class StepsStarted(Message, frozen=True, kw_only=True):
    """The jobs of several steps are to be enqueued."""

    steps: tuple[StepStarted, ...]


@event(SERVICE, "workflow_steps_ended")
class StepsEnded(Message, frozen=True, kw_only=True):
    """Several jobs, of one step or of more, are over."""

    ends: tuple[StepEnded, ...]


@event(SERVICE, "workflow_completed")
class WorkflowCompleted(Message, frozen=True, kw_only=True):
    """Every step is completed."""


@event(SERVICE, "workflow_failed")
class WorkflowFailed(Message, frozen=True, kw_only=True):
    """Some steps failed and nothing more will run."""

    failed: tuple[str, ...]


@event(SERVICE, "workflow_cancelled")
class WorkflowCancelled(Message, frozen=True, kw_only=True):
    """The workflow was cancelled with all of its jobs."""

    reason: str | None = None


@event(SERVICE, "workflow_restarted")
class WorkflowRestarted(Message, frozen=True, kw_only=True):
    """What is not completed runs again, with new jobs."""

    reason: str | None = None
