"""What becomes of a workflow by its events: `evolve`. Pure, and never refuses anything."""

from __future__ import annotations

from datetime import datetime
from typing import assert_never

from msgspec.structs import replace

from penstock.contracts.envelope import Envelope
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
)
from penstock.contracts.workflows import (
    StepEnded,
    StepStarted,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowRestarted,
    WorkflowStarted,
)

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


def evolve(state: WorkflowState | None, event: Event, envelope: Envelope) -> WorkflowState:
    """The state after `event`."""
    if isinstance(event, WorkflowStarted):
        return begun(event, envelope)
    if state is None:
        raise ValueError(f"{envelope.type} comes before any WorkflowStarted")
    return after(state, event, envelope.time, envelope.causationid or envelope.id)


def begun(event: WorkflowStarted, envelope: Envelope) -> WorkflowState:
    """The state of a workflow whose first event this is."""
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


def after(state: WorkflowState, event: Event, now: datetime, by: str) -> WorkflowState:
    """The state after an `event` of the moment `now`, which the command `by` caused."""
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
            return replace(run, state="failed" if has_failed(run) else "cancelled")
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


def has_failed(run: StepRun) -> bool:
    """Whether the step, or one of its jobs, failed or was cancelled."""
    jobs = run.jobs or ""
    return run.state == "failed" or FAILED in jobs or CANCELLED in jobs
