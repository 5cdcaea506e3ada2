"""Ends jobs that wait beyond the time they may take in all. Never runs or starts one.

Such a job has a timer of its own beside the one it may wait for: its id with `#expires` behind it.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from penstock.contracts.envelope import Envelope, encode, wrap
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import SERVICE, JobDue
from penstock.contracts.subjects import MAX_ID
from penstock.infra.bus import Bus
from penstock.infra.deciding.aggregate import Aggregate
from penstock.infra.sender import Cause, Sender
from penstock.infra.timers import Timers
from penstock.jobs.job_endings import EXPIRED

SUFFIX = "#expires"
AGAIN = 10.0  # seconds until a job whose worker has to end it is looked at again


class Expiry:
    """The timers of jobs that have `expires_at`; other jobs cost nothing."""

    def __init__(self, bus: Bus) -> None:
        self._timers = Timers(bus, SERVICE)
        self._sender = Sender(bus)

    async def follow(self, state: JobState, last: Envelope, sequence: int) -> None:
        """Set the timer of a job that waits, or remove it. Raises Unavailable or Timeout.

        A job that is processed is ended by its worker.
        """
        if state.expires_at is None or state.state == "processing":
            return
        if state.is_over:
            await self._timers.cancel(timer_id(state.id))
        else:
            await self._timers.set(timer_id(state.id), state.expires_at, _due(last, sequence))

    async def forget(self, id: str) -> None:
        """Remove the timer of a job that is erased."""
        await self._timers.cancel(timer_id(id))

    async def due(self, job: Aggregate[JobState]) -> None:
        """The timer of a job is due: have it failed, if it still waits and its time is over.

        One that is processed is left to its worker, which knows its deadline, and looked at again:
        it may be given back. Raises Unavailable.
        """
        state, last, now = job.state, job.last, datetime.now(UTC)
        if state is None or last is None or state.is_over:
            return
        if state.expires_at is None or state.expires_at > now:
            return
        if state.state == "processing":
            again = now + timedelta(seconds=AGAIN)
            await self._timers.set(timer_id(state.id), again, _due(last, job.sequence))
            return
        await self._sender.post(
            EXPIRED,
            id=state.id,
            command_id=f"{state.id}:{job.sequence}:expired",
            cause=Cause(correlationid=last.correlationid, event=last, actor=last.actor),
        )


def timer_id(id: str) -> str:
    """The id of a job's second timer."""
    if len(id) + len(SUFFIX) > MAX_ID:
        id = hashlib.sha256(id.encode()).hexdigest()
    return f"{id}{SUFFIX}"


def _due(last: Envelope, sequence: int) -> bytes:
    message = wrap(
        JobDue(sequence=sequence),
        id=f"{last.id}:expires",
        subject=last.subject,
        time=last.time,
        correlationid=last.correlationid,
        cause=last,
        actor=last.actor,
        traceparent=last.traceparent,
    )
    return encode(message)
