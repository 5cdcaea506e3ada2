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
from penstock.contracts.jobs import Moved, SettleJob
from penstock.contracts.jobs_bulk import SettleJobs
from penstock.contracts.lifecycle import Erased
from penstock.infra.deciding.decider import Effect, erased
from penstock.jobs.admission import Admission


class Settling:
    """See `Decider.own`. `effect` is what follows from a job's state.

    Where all that follows is what becomes of its places, and what happened was told, nothing is
    looked up.
    """

    def __init__(self, admission: Admission, effect: Effect[Any]) -> None:
        self._admission = admission
        self._standing = admission.standing
        self._effect = effect

    async def one(self, command: Envelope, data: SettleJob) -> Outcome:
        """Raises Erased or NotFound; Unavailable: settle it again then."""
        sequence = await self._settle(command.subject, data.moved, command)
        return Outcome(id=command.id, sequence=sequence)

    async def many(self, command: Envelope, data: SettleJobs) -> Outcome:
        """Raises as `one` does, once all of them were looked at."""
        moved = {one.id: one for one in data.moved}
        settled = (self._settle(job, moved.get(job), command) for job in data.jobs)
        done = await asyncio.gather(*settled, return_exceptions=True)
        for error in done:
            if isinstance(error, BaseException):
                raise error
        return Outcome(id=command.id)

    async def _settle(self, id: str, moved: Moved | None, command: Envelope) -> int:
        if moved is not None and moved.id == id and (told := self._standing.moved(moved)):
            await self._admission.settle(told)
            return told.sequence
        job = await self._standing.job(id)
        if isinstance(job.tombstone, Erased):
            raise erased(job)
        if job.state is None:
            raise NotFound(f"There is no job {id!r}.", id=id)
        await self._effect(job, command)
        return job.sequence
