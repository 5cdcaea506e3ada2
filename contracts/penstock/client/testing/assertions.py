"""What a test asserts of the jobs and notifications of a `TestSystem`. Never changes anything.

How they are compared and shown is in `asserting`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from penstock.client.testing.asserting import (
    Queued,
    all_sent,
    fitting,
    instead,
    queued,
    sent,
    unlike,
)
from penstock.client.testing.runner import Runner
from penstock.contracts.errors import NotFound
from penstock.contracts.job_state import JobState
from penstock.contracts.notifications import channel_of, inbox_of

Job = str | Callable[..., Any]


class Assertions:
    """Jobs that were performed by the test itself do not count."""

    _runner: Runner
    _performed: set[str]

    def enqueued(self, name: Job | None = None, **wanted: Any) -> list[JobState]:
        """The jobs of that name, or all, whose fields are as `wanted`, in their order.

        Fields are those of a `JobState`; of `payload` a part is enough, `delay` is in seconds or a
        timedelta, and `at` a moment. Also jobs that have run since: with `state="pending"` those
        that have not, with `state="completed"` those that did. Raises TypeError for another field.
        """
        name = None if name is None else self._name(name)
        return [one.job for one in fitting(self._queued(), name, wanted)]

    def assert_enqueued(self, name: Job, *, count: int | None = None, **wanted: Any) -> JobState:
        """The first job of that name whose fields are as `wanted`: see `enqueued`.

        With `count` there have to be so many of them. Raises AssertionError, which shows what was
        enqueued instead.
        """
        name, jobs = self._name(name), self._queued()
        found = fitting(jobs, name, wanted)
        if not found or count not in (None, len(found)):
            wrong = unlike(name, wanted, len(found), count)
            raise AssertionError(f"{wrong} {instead(jobs, name)}")
        return found[0].job

    def assert_not_enqueued(self, name: Job | None = None, **wanted: Any) -> None:
        """Raise AssertionError if there is such a job, or without a name any: see `enqueued`."""
        name = None if name is None else self._name(name)
        if found := fitting(self._queued(), name, wanted):
            job = "A job" if name is None else f"A job {name!r}"
            raise AssertionError(f"{job} is enqueued. {instead(found, name)}")

    def assert_notified(
        self,
        user: str | None = None,
        content: Mapping[str, Any] | None = None,
        *,
        channel: str | None = None,
    ) -> dict[str, Any]:
        """The content of a notification to `user`, or to the `channel`, or to anyone; a part of
        `content` is enough. Raises AssertionError, which shows what was sent instead.
        """
        to, notifications = _to(user, channel), sent(self._runner.session.logs["notifications"])
        for one in notifications:
            if one.fits(to, content or {}):
                return one.content
        whom, what = f" to {to!r}" if to else "", f" with {dict(content)!r}" if content else ""
        raise AssertionError(f"No notification was sent{whom}{what}. {all_sent(notifications)}")

    def assert_not_notified(
        self,
        user: str | None = None,
        content: Mapping[str, Any] | None = None,
        *,
        channel: str | None = None,
    ) -> None:
        """Raise AssertionError if there is such a notification; see `assert_notified`."""
        to, notifications = _to(user, channel), sent(self._runner.session.logs["notifications"])
        if found := [one for one in notifications if one.fits(to, content or {})]:
            raise AssertionError(f"A notification was sent. {all_sent(found)}")

    def _queued(self) -> list[Queued]:
        return queued(self._runner.session.logs["jobs"], self._performed)

    def _name(self, job: Job) -> str:
        if isinstance(job, str):
            return job
        handlers = self._runner.handlers.values()
        name = next((handler.name for handler in handlers if handler.function is job), None)
        if name is None:
            raise NotFound(f"{job!r} is no handler of this system's worker.")
        return name


def _to(user: str | None, channel: str | None) -> str | None:
    return inbox_of(user) if user else channel_of(channel) if channel else None
