"""Carries out SettleJob and SettleJobs: does what follows from how jobs stand. Stores nothing.

They have no outcome that somebody would have to be told again, so none is remembered: that would
cost as much as the jobs' own events.
"""

from __future__ import annotations

import asyncio
from typing import Any

from penstock.contracts.answers import Outcome
from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import NotFound
from penstock.contracts.jobs_bulk import SettleJobs
from penstock.contracts.lifecycle import Erased
from penstock.infra.deciding.decider import Effect, erased
from penstock.jobs.standing import Standing


class Settling:
    """See `Decider.own`. `effect` is what follows from a job's state."""

    def __init__(self, standing: Standing, effect: Effect[Any]) -> None:
        self._standing = standing
        self._effect = effect

    async def one(self, command: Envelope, _: Any) -> Outcome:
        """Raises Erased or NotFound; Unavailable: settle it again then."""
        return Outcome(id=command.id, sequence=await self._settle(command.subject, command))

    async def many(self, command: Envelope, data: SettleJobs) -> Outcome:
        """Raises as `one` does, once all of them were looked at."""
        settled = (self._settle(job, command) for job in data.jobs)
        done = await asyncio.gather(*settled, return_exceptions=True)
        for error in done:
            if isinstance(error, BaseException):
                raise error
        return Outcome(id=command.id)

    async def _settle(self, id: str, command: Envelope) -> int:
        job = await self._standing.job(id)
        if isinstance(job.tombstone, Erased):
            raise erased(job)
        if job.state is None:
            raise NotFound(f"There is no job {id!r}.", id=id)
        await self._effect(job, command)
        return job.sequence
