"""What progress is: state, `decide` and `evolve`. Pure: time and ids arrive as data."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import assert_never

import msgspec
from msgspec.structs import replace

from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import InvalidMessage, NotFound, Refused
from penstock.contracts.progress import (
    AdvanceStage,
    CancelProgress,
    CleanupProgress,
    CompleteProgress,
    CreateProgress,
    FailProgress,
    ProgressCancelled,
    ProgressCleanedUp,
    ProgressCompleted,
    ProgressCreated,
    ProgressFailed,
    ProgressState,
    ProgressUpdated,
    Stage,
    StageAdvanced,
    State,
    UpdateProgress,
)
from penstock.infra.deciding.decider import Context

Command = (
    CreateProgress
    | UpdateProgress
    | AdvanceStage
    | CompleteProgress
    | FailProgress
    | CancelProgress
    | CleanupProgress
)
Event = (
    ProgressCreated
    | ProgressUpdated
    | StageAdvanced
    | ProgressCompleted
    | ProgressFailed
    | ProgressCancelled
    | ProgressCleanedUp
)
Ending = ProgressCompleted | ProgressFailed | ProgressCancelled
MOST_BEFORE_DONE = 99.99  # a bar is full only when the work is said to be done


FINAL = ("completed", "failed", "cancelled", "cleaned_up")


def finished(state: ProgressState) -> str | None:
    """The final state it is in, if it is in one."""
    if state.cleaned_up:
        return "cleaned_up"
    return state.state if state.is_over else None


def decide(
    state: ProgressState | None, command: msgspec.Struct, context: Context
) -> Sequence[msgspec.Struct]:
    """The events that `command` causes. Raises NotFound, Refused or InvalidMessage."""
    id = context.command.subject
    if isinstance(command, CreateProgress):
        return _create(state, command, id)
    if state is None:
        raise NotFound(f"There is no progress {id!r}; create it first.", id=id)
    if isinstance(command, CleanupProgress):
        return [] if state.cleaned_up else [ProgressCleanedUp()]
    return _change(state, command)


def _create(state: ProgressState | None, command: CreateProgress, id: str) -> Sequence[Event]:
    if len(set(command.stages)) < len(command.stages):
        raise InvalidMessage("The stages of a progress have different names.", path="$.data.stages")
    created = ProgressCreated(stages=command.stages, metadata=command.metadata)
    if state is None or state.cleaned_up:
        return [created]
    if _stage_names(state) == command.stages and state.metadata == command.metadata:
        return []
    raise Refused(f"The progress {id!r} exists with other stages or metadata; use another id.")


def _change(state: ProgressState, command: msgspec.Struct) -> Sequence[Event]:
    ended = _ending(command)
    if state.is_over:
        if ended is not None and _STATE_AFTER[type(ended)] == state.state:
            return []  # said twice
        what = "cleaned up" if state.cleaned_up else state.state
        raise Refused(
            f"The progress {state.id!r} is {what} already; nothing more can happen to it."
        )
    if ended is not None:
        return [ended]
    match command:
        case UpdateProgress():
            _known_stage(state, command.stage)
            return [
                ProgressUpdated(
                    percent=command.percent, stage=command.stage, message=command.message
                )
            ]
        case AdvanceStage():
            return [StageAdvanced(stage=_next_stage(state, command.stage))]
        case _:
            raise TypeError(f"not a command of progress: {type(command).__name__}")


def _ending(
    command: msgspec.Struct,
) -> Ending | None:
    match command:
        case CompleteProgress():
            return ProgressCompleted(message=command.message)
        case FailProgress():
            return ProgressFailed(error=command.error)
        case CancelProgress():
            return ProgressCancelled(reason=command.reason)
        case _:
            return None


_STATE_AFTER: dict[type[msgspec.Struct], State] = {
    ProgressCompleted: "completed",
    ProgressFailed: "failed",
    ProgressCancelled: "cancelled",
}


def _stage_names(state: ProgressState) -> tuple[str, ...]:
    return tuple(stage.name for stage in state.stages)


def _known_stage(state: ProgressState, stage: str | None) -> None:
    names = _stage_names(state)
    if stage is not None and stage not in names:
        has = f"it has {', '.join(names)}" if names else "it was created without stages"
        raise InvalidMessage(
            f"The progress {state.id!r} has no stage {stage!r}; {has}.", path="$.data.stage"
        )


def _next_stage(state: ProgressState, wanted: str | None) -> str:
    names = _stage_names(state)
    if wanted is not None:
        _known_stage(state, wanted)
        return wanted
    following = names.index(state.stage) + 1 if state.stage else 0
    if following >= len(names):
        raise Refused(f"The progress {state.id!r} has no stage after {state.stage!r}; complete it.")
    return names[following]


def evolve(state: ProgressState | None, event: msgspec.Struct, envelope: Envelope) -> ProgressState:
    """The state after `event`."""
    now = envelope.time
    if isinstance(event, ProgressCreated):
        return ProgressState(
            id=envelope.subject,
            stages=tuple(Stage(name=name) for name in event.stages),
            metadata=event.metadata,
            created=now,
            updated=now,
        )
    if state is None:
        raise ValueError(f"{envelope.type} comes before any creation")
    return _after(replace(state, updated=now), _known(event), now)


def _known(event: msgspec.Struct) -> Event:
    if isinstance(event, Event):
        return event
    raise TypeError(f"not an event of progress: {type(event).__name__}")


def _after(state: ProgressState, event: Event, now: datetime) -> ProgressState:
    match event:
        case ProgressCreated():
            return state
        case ProgressUpdated():
            moved = _enter(state, event.stage, now) if event.stage else state
            return replace(
                moved,
                state="processing",
                percent=min(event.percent, MOST_BEFORE_DONE),
                message=event.message if event.message is not None else state.message,
            )
        case StageAdvanced():
            return replace(_enter(state, event.stage, now), state="processing")
        case ProgressCompleted():
            return replace(
                _end(state, "completed", now), percent=100.0, message=event.message or state.message
            )
        case ProgressFailed():
            return replace(_end(state, "failed", now), error=event.error)
        case ProgressCancelled():
            return replace(_end(state, "cancelled", now), message=event.reason or state.message)
        case ProgressCleanedUp():
            return replace(state, cleaned_up=True)
        case _:
            assert_never(event)


def _enter(state: ProgressState, name: str, now: datetime) -> ProgressState:
    """The stage `name` is under way: those before it are over, those after it yet to come."""
    if state.stage == name:
        return state
    here = _stage_names(state).index(name)
    stages = tuple(
        _over(stage, "completed", now) if i < here
        else Stage(name=name, state="processing", started=now) if i == here
        else Stage(name=stage.name)
        for i, stage in enumerate(state.stages)
    )  # fmt: skip
    return replace(state, stage=name, stages=stages)


def _over(stage: Stage, how: State, now: datetime) -> Stage:
    if stage.state in ("completed", "failed", "cancelled"):
        return stage
    return replace(stage, state=how, ended=now)


def _end(state: ProgressState, how: State, now: datetime) -> ProgressState:
    touched = tuple(
        _over(stage, how, now) if how == "completed" or stage.state == "processing" else stage
        for stage in state.stages
    )
    return replace(state, state=how, stages=touched, ended=now)
