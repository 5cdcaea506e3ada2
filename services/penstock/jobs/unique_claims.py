"""Whether a stored job has its unique key: one that lost it to another job is cancelled.

A slow enqueuer may have stored it behind its reservation. Never gives a key away.
"""

from __future__ import annotations

from typing import Any

from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import CancelJob
from penstock.infra.bus import Bus
from penstock.infra.deciding.aggregate import Aggregate
from penstock.infra.deciding.decider import Load
from penstock.infra.sender import Cause, Sender
from penstock.jobs.unique import UniqueKeys


class UniqueClaims:
    """`load` is the service's own."""

    def __init__(self, bus: Bus, unique: UniqueKeys, load: Load[Any]) -> None:
        self._sender = Sender(bus)
        self._unique = unique
        self._load = load

    async def is_wanted(self, job: Aggregate[JobState]) -> bool:
        """Whether the job may go on, as far as its key is concerned. Raises Unavailable."""
        state, last = job.state, job.last
        if state is None or last is None or state.rules.unique_key is None:
            return True
        if state.state not in ("pending", "retrying"):
            return True
        other = await self._unique.claim(state, self._load)
        if other is None:
            return True
        await self._sender.post(
            CancelJob(reason=str(other)),
            id=job.id,
            command_id=f"{job.id}:{job.sequence}:duplicate",
            cause=Cause(correlationid=last.correlationid, event=last, actor=last.actor),
        )
        return False
