"""Progress: its commands, events and state, version 1. Never any logic."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from penstock.contracts.answers import Question
from penstock.contracts.envelope import Time, command, event

SERVICE = "progress"
State = Literal["pending", "processing", "completed", "failed", "cancelled"]
Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What all messages here share. States, unlike messages, always show every field."""


@command(SERVICE, "create")
class CreateProgress(Message, frozen=True, kw_only=True):
    """Begin to track something, with the stages that it will go through in order."""

    stages: tuple[Name, ...] = ()
    metadata: dict[str, Any] = {}


@command(SERVICE, "update")
class UpdateProgress(Message, frozen=True, kw_only=True):
    """Say how far the whole is (percent, absolute), and in which stage."""

    percent: Percent
    stage: Name | None = None
    message: str | None = None


@command(SERVICE, "advance")
class AdvanceStage(Message, frozen=True, kw_only=True):
    """Enter the next stage, or the named one."""

    stage: Name | None = None


@command(SERVICE, "complete")
class CompleteProgress(Message, frozen=True, kw_only=True):
    """The work is done."""

    message: str | None = None


@command(SERVICE, "fail")
class FailProgress(Message, frozen=True, kw_only=True):
    """The work failed and will not go on."""

    error: str


@command(SERVICE, "cancel")
class CancelProgress(Message, frozen=True, kw_only=True):
    """The work was given up."""

    reason: str | None = None


@command(SERVICE, "cleanup")
class CleanupProgress(Message, frozen=True, kw_only=True):
    """Take it off the views; its events stay in the log."""


@event(SERVICE, "created")
class ProgressCreated(Message, frozen=True, kw_only=True):
    """Tracking began."""

    stages: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}


@event(SERVICE, "updated")
class ProgressUpdated(Message, frozen=True, kw_only=True):
    """The whole stands at `percent`."""

    percent: float
    stage: str | None = None
    message: str | None = None


@event(SERVICE, "stage_advanced")
class StageAdvanced(Message, frozen=True, kw_only=True):
    """A stage was entered; those before it are over."""

    stage: str


@event(SERVICE, "completed")
class ProgressCompleted(Message, frozen=True, kw_only=True):
    """The work was done."""

    message: str | None = None


@event(SERVICE, "failed")
class ProgressFailed(Message, frozen=True, kw_only=True):
    """The work failed."""

    error: str


@event(SERVICE, "cancelled")
class ProgressCancelled(Message, frozen=True, kw_only=True):
    """The work was given up."""

    reason: str | None = None


@event(SERVICE, "cleaned_up")
class ProgressCleanedUp(Message, frozen=True, kw_only=True):
    """Taken off the views."""


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of the work."""

    name: str
    state: State = "pending"
    started: Time | None = None
    ended: Time | None = None


class ProgressState(msgspec.Struct, frozen=True, kw_only=True):
    """How far something is. `percent` is 100 only when it is completed."""

    id: str
    state: State = "pending"
    percent: float = 0.0
    stage: str | None = None
    stages: tuple[Stage, ...] = ()
    message: str | None = None
    error: str | None = None
    metadata: dict[str, Any] = {}
    created: Time
    updated: Time
    ended: Time | None = None
    cleaned_up: bool = False

    @property
    def is_over(self) -> bool:
        """True once nothing more will happen."""
        return self.state in ("completed", "failed", "cancelled") or self.cleaned_up


class ListProgress(Question, frozen=True, kw_only=True, omit_defaults=True):
    """Progresses by state, newest first."""

    state: State | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    before: str | None = None
