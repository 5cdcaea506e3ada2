"""What becomes of a job whose handler raised, by the class of the exception. Never runs one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TypeAlias

import msgspec

from penstock.contracts.jobs import Backoff


class PermanentFailure(Exception):  # noqa: N818 - named for what happened
    """Raise it in a handler to fail the job at once: no further attempt can help.

    Its message is the job's error.
    """


class Snooze(Exception):  # noqa: N818 - named for what it asks for
    """Raise it in a handler to be called again after `seconds`; the attempt does not count."""

    def __init__(self, seconds: float | timedelta, reason: str = "") -> None:
        super().__init__(reason)
        self.seconds = _seconds(seconds)


class Discard(Exception):  # noqa: N818 - named for what it asks for
    """Raise it in a handler to end the job as cancelled: there is nothing to do any more."""


class Retried(msgspec.Struct, frozen=True):
    """Another attempt follows, after a wait by `backoff`, or the job's own."""

    backoff: Backoff | None = None


class Snoozed(msgspec.Struct, frozen=True):
    """The handler is called again after `seconds`; the attempt does not count."""

    seconds: float


class Discarded(msgspec.Struct, frozen=True):
    """The job is cancelled."""


class Dead(msgspec.Struct, frozen=True):
    """The job fails at once, and is among the dead letters."""


Action: TypeAlias = Retried | Snoozed | Discarded | Dead


def retry(backoff: Backoff | None = None) -> Action:
    """Try again, after a wait by `backoff`."""
    return Retried(backoff)


def snooze(seconds: float | timedelta) -> Action:
    """Call again after `seconds` without counting the attempt."""
    return Snoozed(_seconds(seconds))


def discard() -> Action:
    """End the job as cancelled."""
    return Discarded()


def dead() -> Action:
    """Fail the job at once."""
    return Dead()


class RetryPolicy:
    """`on` says what follows an exception of a class, or of one below it; the nearest class counts.

    What is not in it is tried again. `backoff` and `max_attempts` stand for the job's own.
    """

    def __init__(
        self,
        on: Mapping[type[BaseException], Action] | None = None,
        *,
        backoff: Backoff | None = None,
        max_attempts: int | None = None,
    ) -> None:
        if max_attempts is not None and max_attempts < 1:
            raise ValueError("max_attempts counts the first attempt: it is at least 1.")
        self._on = dict(on or {})
        self.backoff = backoff
        self.max_attempts = max_attempts

    def after(self, error: BaseException) -> Action:
        """What follows `error`."""
        match error:
            case Snooze():
                return Snoozed(error.seconds)
            case Discard():
                return Discarded()
            case PermanentFailure():
                return Dead()
            case _:
                found = (self._on[kind] for kind in type(error).__mro__ if kind in self._on)
                return next(found, Retried())


USUAL = RetryPolicy()


def _seconds(seconds: float | timedelta) -> float:
    value = seconds.total_seconds() if isinstance(seconds, timedelta) else float(seconds)
    if value < 0:
        raise ValueError(f"A time to wait is at least 0 seconds, not {value}.")
    return value
