"""A workflow: `decide` and `evolve`. Pure: time and ids arrive as data.

It knows how its jobs ended and never what they returned, but for the lengths of lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import assert_never

from msgspec.structs import replace

from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import NotFound, Refused
from penstock.contracts.workflow_state import (
    CANCELLED,
    COMPLETED,
    FAILED,
    IGNORED,
    UNDER_WAY,
    State,
    StepRun,
    StepState,
    WorkflowState,
    dependencies,
    place_of,
)
from penstock.contracts.workflows import (
    MAX_ELEMENTS,
    AdvanceWorkflow,
    CancelWorkflow,
    RestartWorkflow,
    StartWorkflow,
    Step,
    StepEnded,
    StepStarted,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowRestarted,
    WorkflowStarted,
)
from penstock.infra.deciding.decider import Context
from penstock.jobs.workflow_checks import check

Command = StartWorkflow | AdvanceWorkflow | CancelWorkflow | RestartWorkflow
Event = (
    WorkflowStarted
    | StepStarted
    | StepEnded
    | WorkflowCompleted
    | WorkflowFailed
    | WorkflowCancelled
    | WorkflowRestarted
)
DONE = {COMPLETED, IGNORED}
LOST: set[StepState] = {"failed", "cancelled", "skipped"}


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
    return _onward(_begun(started, _envelope(context)), [started], context)


def _advance(state: WorkflowState, command: AdvanceWorkflow, context: Context) -> Sequence[Event]:
    place = place_of(state.id, command.job)
    if state.is_over or place is None or not _under_way(state, *place):
        return []
    key, index, _ = place
    ended = StepEnded(key=key, index=index, how=command.how, size=command.size, error=command.error)
    return _onward(_after(state, ended, context.now, context.command.id), [ended], context)


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
    after = _after(state, restarted, context.now, context.command.id)
    return _onward(after, [restarted], context)


# -- what follows ----------------------------------------------------------------------------------


def _onward(state: WorkflowState, events: list[Event], context: Context) -> list[Event]:
    """`events`, which led to `state`, and all that follows from them."""
    while True:
        failed = tuple(key for key, run in state.runs.items() if _has_failed(run))
        if failed and state.on_failure == "stop":
            return [*events, WorkflowFailed(failed=failed)]
        ready = [step for step in state.steps if _is_ready(state, step)]
        if not ready:
            break
        for step in ready:
            begun = _begin(state, step)
            events = [*events, begun]
            state = _after(state, begun, context.now, context.command.id)
    if any(run.state == "processing" for run in state.runs.values()):
        return events
    return [*events, WorkflowFailed(failed=failed) if failed else WorkflowCompleted()]


def _has_failed(run: StepRun) -> bool:
    jobs = run.jobs or ""
    return run.state == "failed" or FAILED in jobs or CANCELLED in jobs


def _is_ready(state: WorkflowState, step: Step) -> bool:
    if state.runs[step.key].state != "waiting":
        return False
    return all(state.runs[key].state == "completed" for key in dependencies(step))


def _begin(state: WorkflowState, step: Step) -> Event:
    if (jobs := state.runs[step.key].jobs) is not None:
        return StepStarted(key=step.key, jobs=len(jobs))
    if step.each is None:
        return StepStarted(key=step.key)
    size = state.runs[step.each].size if isinstance(step.each, str) else len(step.each)
    if size is None:
        error = f"What the step {step.each!r} returned is not a list."
    elif size > MAX_ELEMENTS:
        error = f"What the step {step.each!r} returned has more than {MAX_ELEMENTS} elements."
    else:
        return StepStarted(key=step.key, jobs=size)
    return StepEnded(key=step.key, index=None, how="failed", error=error)


# -- evolving --------------------------------------------------------------------------------------


def evolve(state: WorkflowState | None, event: Event, envelope: Envelope) -> WorkflowState:
    """The state after `event`."""
    if isinstance(event, WorkflowStarted):
        return _begun(event, envelope)
    if state is None:
        raise ValueError(f"{envelope.type} comes before any WorkflowStarted")
    return _after(state, event, envelope.time, envelope.causationid or envelope.id)


def _begun(event: WorkflowStarted, envelope: Envelope) -> WorkflowState:
    return WorkflowState(
        id=envelope.subject,
        steps=event.steps,
        runs={step.key: StepRun() for step in event.steps},
        on_failure=event.on_failure,
        metadata=event.metadata,
        tags=event.tags,
        created=envelope.time,
        correlationid=envelope.correlationid,
    )


def _envelope(context: Context) -> Envelope:
    """What a decision knows of the envelope of the event that it makes."""
    return replace(context.command, time=context.now)


def _after(state: WorkflowState, event: Event, now: datetime, by: str) -> WorkflowState:
    match event:
        case WorkflowStarted():
            return state
        case StepStarted():
            return _with(state, event.key, _started(state.runs[event.key], event, by))
        case StepEnded():
            return _lost(_with(state, event.key, _ended(state, event)))
        case WorkflowCompleted():
            return _over(state, "completed", now, by)
        case WorkflowFailed():
            return _over(state, "failed", now, by)
        case WorkflowCancelled():
            return replace(_over(state, "cancelled", now, by), reason=event.reason)
        case WorkflowRestarted():
            return _restarted(state)
        case _:
            assert_never(event)


def _with(state: WorkflowState, key: str, run: StepRun) -> WorkflowState:
    return replace(state, runs={**state.runs, key: run})


def _started(run: StepRun, event: StepStarted, by: str) -> StepRun:
    jobs = run.jobs if run.jobs is not None else UNDER_WAY * event.jobs
    begun = replace(run, state="processing", jobs=jobs, begun_by=by)
    return begun if jobs else replace(begun, state="completed", size=0)


def _ended(state: WorkflowState, event: StepEnded) -> StepRun:
    step, run = state.step(event.key), state.runs[event.key]
    ignored = step.on_failure == "ignore"
    if event.index is None:
        return replace(run, state="completed" if ignored else "failed", error=event.error)
    letter = _letter(event, ignored)
    before = run.jobs or ""
    jobs = before[: event.index] + letter + before[event.index + 1 :]
    size = event.size if step.each is None else len(jobs)
    run = replace(run, jobs=jobs, size=size, error=event.error or run.error)
    if UNDER_WAY in jobs:
        return run
    return replace(run, state="completed" if DONE.issuperset(jobs) else "failed")


def _letter(event: StepEnded, ignored: bool) -> str:
    if event.how == "completed":
        return COMPLETED
    if ignored:
        return IGNORED
    return FAILED if event.how == "failed" else CANCELLED


def _lost(state: WorkflowState) -> WorkflowState:
    """Skip what waits for a step that will not be completed."""
    while lost := [
        step.key
        for step in state.steps
        if state.runs[step.key].state == "waiting"
        and any(state.runs[key].state in LOST for key in dependencies(step))
    ]:
        skipped = {key: replace(state.runs[key], state="skipped") for key in lost}
        state = replace(state, runs={**state.runs, **skipped})
    return state


def _over(state: WorkflowState, how: State, now: datetime, by: str) -> WorkflowState:
    runs = {key: _stopped(run) for key, run in state.runs.items()}
    return replace(state, state=how, runs=runs, ended=now, ended_by=by)


def _stopped(run: StepRun) -> StepRun:
    """What becomes of a step when its workflow ends; its jobs that were under way stay marked so
    that they can be cancelled."""
    match run.state:
        case "waiting":
            return replace(run, state="skipped")
        case "processing":
            return replace(run, state="failed" if _has_failed(run) else "cancelled")
        case _:
            return run


def _restarted(state: WorkflowState) -> WorkflowState:
    generation = state.generation + 1
    runs = {key: _anew(run, generation) for key, run in state.runs.items()}
    anew = replace(state, state="processing", runs=runs, generation=generation)
    return replace(anew, ended=None, ended_by=None, reason=None)


def _anew(run: StepRun, generation: int) -> StepRun:
    if run.state == "completed":
        return run
    if run.jobs is None:
        return StepRun()
    lost = {n: generation for n, letter in enumerate(run.jobs) if letter not in DONE}
    jobs = "".join(letter if letter in DONE else UNDER_WAY for letter in run.jobs)
    return StepRun(jobs=jobs, again={**run.again, **lost}, size=run.size)
