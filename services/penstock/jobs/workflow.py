"""A workflow: `decide`; `evolve` is in `workflow_evolve`. Pure: time and ids arrive as data.

It knows how its jobs ended and never what they returned, but for the lengths of lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from msgspec.structs import replace

from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import NotFound, Refused
from penstock.contracts.workflow_state import (
    UNDER_WAY,
    WorkflowState,
    place_of,
)
from penstock.contracts.workflows import (
    MAX_ELEMENTS,
    AdvanceWorkflow,
    CancelWorkflow,
    JobEnded,
    RestartWorkflow,
    StartWorkflow,
    Step,
    StepEnded,
    StepsEnded,
    StepsStarted,
    StepStarted,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowRestarted,
    WorkflowStarted,
)
from penstock.infra.deciding.decider import Context
from penstock.jobs.workflow_checks import check
from penstock.jobs.workflow_evolve import Event, after, begun, evolve, has_failed
from penstock.jobs.workflow_plan import Plan, plan_of

__all__ = ["Command", "Event", "decide", "evolve", "finished"]

Command = StartWorkflow | AdvanceWorkflow | CancelWorkflow | RestartWorkflow


def finished(state: WorkflowState) -> str | None:
    """The final state it is in, if it is in one."""
    return state.state if state.is_over else None


def decide(state: WorkflowState | None, command: Command, context: Context) -> Sequence[Event]:
    """The events that `command` causes. Raises InvalidMessage, NotFound, Refused or TooLarge."""
    if isinstance(command, StartWorkflow):
        return _start(state, command, context)
    if state is None:
        id = context.command.subject
        raise NotFound(f"There is no workflow {id!r}.", id=id)
    match command:
        case AdvanceWorkflow():
            return _advance(state, command, context)
        case CancelWorkflow():
            return _cancel(state, command)
        case RestartWorkflow():
            return _restart(state, command, context)
        case _:
            assert_never(command)


def _start(
    state: WorkflowState | None, command: StartWorkflow, context: Context
) -> Sequence[Event]:
    check(command)
    if state is not None:
        if (state.steps, state.on_failure) == (command.steps, command.on_failure):
            return []
        raise Refused(f"There is a workflow {state.id!r} with other steps; use another id.")
    started = WorkflowStarted(
        steps=command.steps,
        on_failure=command.on_failure,
        metadata=command.metadata,
        tags=command.tags,
    )
    return _onward(begun(started, _envelope(context)), [started], context)


def _advance(state: WorkflowState, command: AdvanceWorkflow, context: Context) -> Sequence[Event]:
    if not (ends := _counted(state, [command, *command.more])):
        return []
    ended = ends[0] if len(ends) == 1 else StepsEnded(ends=tuple(ends))
    return _onward(after(state, ended, context.now, context.command.id), [ended], context)


def _counted(
    state: WorkflowState, told: Sequence[AdvanceWorkflow | JobEnded]
) -> Sequence[StepEnded]:
    """Each end that is not known yet, once."""
    ends: dict[tuple[str, int], StepEnded] = {}
    for one in told:
        place = None if state.is_over else place_of(state.id, one.job)
        if place is None or not _under_way(state, *place):
            continue
        key, index, _ = place
        end = StepEnded(key=key, index=index, how=one.how, size=one.size, error=one.error)
        ends.setdefault((key, index), end)
    return list(ends.values())


def _under_way(state: WorkflowState, key: str, index: int, generation: int) -> bool:
    run = state.runs.get(key)
    if run is None or run.jobs is None or index >= len(run.jobs):
        return False
    return run.jobs[index] == UNDER_WAY and run.again.get(index, 0) == generation


def _cancel(state: WorkflowState, command: CancelWorkflow) -> Sequence[Event]:
    if state.state == "cancelled":
        return []
    if state.is_over:
        raise Refused(f"The workflow {state.id!r} is {state.state}; it cannot be cancelled.")
    return [WorkflowCancelled(reason=command.reason)]


def _restart(state: WorkflowState, command: RestartWorkflow, context: Context) -> Sequence[Event]:
    if state.state == "completed":
        raise Refused(f"The workflow {state.id!r} is completed; start a new one.")
    if not state.is_over:
        return []
    restarted = WorkflowRestarted(reason=command.reason)
    anew = after(state, restarted, context.now, context.command.id)
    return _onward(anew, [restarted], context)


# -- what follows ----------------------------------------------------------------------------------


def _onward(state: WorkflowState, events: list[Event], context: Context) -> list[Event]:
    """`events`, which led to `state`, and all that follows from them."""
    plan = plan_of(state.steps)
    while True:
        failed = tuple(key for key, run in state.runs.items() if has_failed(run))
        if failed and state.on_failure == "stop":
            return [*events, WorkflowFailed(failed=failed)]
        ready = [step for step in state.steps if _is_ready(state, plan, step.key)]
        if not ready:
            break
        for event in _begun_together([_begin(state, step) for step in ready]):
            events = [*events, event]
            state = after(state, event, context.now, context.command.id)
    if any(run.state == "processing" for run in state.runs.values()):
        return events
    return [*events, WorkflowFailed(failed=failed) if failed else WorkflowCompleted()]


def _is_ready(state: WorkflowState, plan: Plan, key: str) -> bool:
    if state.runs[key].state != "waiting":
        return False
    return all(state.runs[needed].state == "completed" for needed in plan.needs[key])


def _begun_together(begun: Sequence[StepStarted | StepEnded]) -> Sequence[Event]:
    """In as few events as say it: an append holds 1000."""
    started = tuple(event for event in begun if isinstance(event, StepStarted))
    ended = tuple(event for event in begun if isinstance(event, StepEnded))
    return [
        *([StepsStarted(steps=started)] if len(started) > 1 else started),
        *([StepsEnded(ends=ended)] if len(ended) > 1 else ended),
    ]


def _begin(state: WorkflowState, step: Step) -> StepStarted | StepEnded:
    if (jobs := state.runs[step.key].jobs) is not None:
        return StepStarted(key=step.key, jobs=len(jobs))
    if step.each is None:
        return StepStarted(key=step.key)
    size = state.runs[step.each].size if isinstance(step.each, str) else len(step.each)
    if size is None:
        error = _why_no_size(state, step)
    elif size > MAX_ELEMENTS:
        error = f"What the step {step.each!r} returned has more than {MAX_ELEMENTS} elements."
    else:
        return StepStarted(key=step.key, jobs=size)
    return StepEnded(key=step.key, index=None, how="failed", error=error)


def _why_no_size(state: WorkflowState, step: Step) -> str:
    known = state.runs[step.each].error if isinstance(step.each, str) else None
    return known or f"What the step {step.each!r} returned is not a list."


def _envelope(context: Context) -> Envelope:
    """What a decision knows of the envelope of the event that it makes."""
    return replace(context.command, time=context.now)
