"""Offers the jobs of many due timers at once, where it is easily told how they stand.

Never acknowledges a timer, and leaves those that are not for the time of a job to others.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec
from nats.aio.msg import Msg

from penstock.contracts.envelope import decode, unwrap
from penstock.contracts.errors import InvalidMessage
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import JobDue
from penstock.contracts.subjects import untoken
from penstock.infra.bus import Stored
from penstock.infra.deciding.aggregate import Aggregate
from penstock.jobs.dispatch import Dispatch
from penstock.jobs.expiry import SUFFIX
from penstock.jobs.latest import Latest

log = logging.getLogger(__name__)


class _Due(msgspec.Struct, frozen=True):
    """Whose time has come, if `sequence` is still its last event's."""

    id: str
    sequence: int


class DueTogether:
    """`kinds` are the prefixes of ids that are no jobs'."""

    def __init__(self, dispatch: Dispatch, latest: Latest, kinds: Collection[str]) -> None:
        self._dispatch = dispatch
        self._latest = latest
        self._kinds = kinds

    async def offer(self, messages: Sequence[Msg]) -> list[Msg]:
        """Offer those that still wait; the messages of which nothing is left to be done."""
        found = [(msg, self._of_job(msg.subject, msg.data)) for msg in messages]
        dues = [(msg, due) for msg, due in found if due is not None]
        try:
            jobs = await self._latest.of({due.id for _, due in dues})
            await self._dispatch.admit_all(_waiting(jobs, [due for _, due in dues]))
        except Exception as error:  # noqa: BLE001 - each by itself shows which one it is of
            log.warning("%d due jobs go one by one: %r", len(dues), error)
            return []
        return [msg for msg, due in dues if _is_behind(due, jobs)]

    async def settled(self, messages: Sequence[Stored]) -> set[int]:
        """The sequences of those whose job has moved on; see `Clearing`. Raises Unavailable."""
        found = {one.sequence: self._of_job(one.subject, one.data) for one in messages}
        dues = {sequence: due for sequence, due in found.items() if due}
        jobs = await self._latest.of({due.id for due in dues.values()})
        return {
            sequence
            for sequence, due in dues.items()
            if due.id in jobs and jobs[due.id].sequence > due.sequence
        }

    def _of_job(self, subject: str, body: bytes) -> _Due | None:
        try:
            message = decode(body)
            due = unwrap(message)
        except InvalidMessage:
            return None
        kind, colon, _ = message.subject.partition(":")
        if not isinstance(due, JobDue) or kind + colon in self._kinds or is_expiry(subject):
            return None
        return _Due(message.subject, due.sequence)


def is_expiry(subject: str) -> bool:
    """Whether a due message is of the second timer of a job; see `expiry`."""
    return untoken(subject.rpartition(".")[2]).endswith(SUFFIX)


def _waiting(jobs: dict[str, Aggregate[Any]], dues: Iterable[_Due]) -> list[Aggregate[JobState]]:
    """Those that are as they were when the timer was set, each once."""
    found = {due.id: jobs[due.id] for due in dues if due.id in jobs and _is_now(due, jobs[due.id])}
    return list(found.values())


def _is_now(due: _Due, job: Aggregate[Any]) -> bool:
    return job.sequence == due.sequence and isinstance(job.state, JobState)


def _is_behind(due: _Due, jobs: dict[str, Aggregate[Any]]) -> bool:
    """Whether the job was offered or has moved on; a replica that lags would tell less."""
    return due.id in jobs and jobs[due.id].sequence >= due.sequence
