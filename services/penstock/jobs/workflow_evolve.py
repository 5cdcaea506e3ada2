"""What becomes of a workflow by its events: `evolve`. Pure, and never refuses anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
)
from penstock.contracts.workflows import (
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
from penstock.jobs.workflow_plan import Plan, plan_of

Event = (
    WorkflowStarted
    | StepStarted
    | StepsStarted
    | StepEnded
    | StepsEnded
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
            return _with_begun(state, (event,), by)
        case StepsStarted():
            return _with_begun(state, event.steps, by)
        case StepEnded():
            return _with_ended(state, (event,))
        case StepsEnded():
            return _with_ended(state, event.ends)
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


def _with_begun(state: WorkflowState, steps: Iterable[StepStarted], by: str) -> WorkflowState:
    runs = {**state.runs}
    for step in steps:
        runs[step.key] = _started(runs[step.key], step, by)
    return replace(state, runs=runs)


def _started(run: StepRun, event: StepStarted, by: str) -> StepRun:
    jobs = run.jobs if run.jobs is not None else UNDER_WAY * event.jobs
    begun = replace(run, state="processing", jobs=jobs, begun_by=by)
    return begun if jobs else replace(begun, state="completed", size=0)


def _with_ended(state: WorkflowState, ends: Iterable[StepEnded]) -> WorkflowState:
    """With all of them at once: a copy for each would make workflows of many jobs quadratic."""
    plan, runs = plan_of(state.steps), {**state.runs}
    by_key: dict[str, list[StepEnded]] = {}
    for end in ends:
        by_key.setdefault(end.key, []).append(end)
    for key, own in by_key.items():
        runs[key] = _ended(plan.steps[key], runs[key], own)
    _skip(plan, runs, [key for key in by_key if runs[key].state in LOST])
    return replace(state, runs=runs)


def _ended(step: Step, run: StepRun, ends: Sequence[StepEnded]) -> StepRun:
    ignored = step.on_failure == "ignore"
    letters = bytearray((run.jobs or "").encode())
    for end in ends:
        if end.index is None:
            return replace(run, state="completed" if ignored else "failed", error=end.error)
        letters[end.index] = ord(_letter(end, ignored))
    jobs = letters.decode()
    size = ends[-1].size if step.each is None else len(jobs)
    error = next((end.error for end in reversed(ends) if end.error), run.error)
    run = replace(run, jobs=jobs, size=size, error=error)
    if UNDER_WAY in jobs:
        return run
    return replace(run, state="completed" if DONE.issuperset(jobs) else "failed")


def _letter(event: StepEnded, ignored: bool) -> str:
    if event.how == "completed":
        return COMPLETED
    if ignored:
        return IGNORED
    return FAILED if event.how == "failed" else CANCELLED


def _skip(plan: Plan, runs: dict[str, StepRun], lost: list[str]) -> None:
    """Skip what waits for steps that will not be completed, and what waits for that."""
    while lost:
        for key in plan.followers.get(lost.pop(), ()):
            if runs[key].state == "waiting":
                runs[key] = replace(runs[key], state="skipped")
                lost.append(key)


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
