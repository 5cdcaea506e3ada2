"""Redrives or discards many dead jobs by one command: their events in one batch, then their items.

Each is changed as by a command of its own, whose id follows from the whole one's. One that is still
as the caller saw it goes with the others; all the rest, and what an earlier try left half done,
goes the way of a single command. Never decides: that is `domain`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from penstock.contracts.answers import Outcome
from penstock.contracts.envelope import Envelope
from penstock.contracts.jobs import DiscardJob, RedriveJob
from penstock.contracts.jobs_bulk import Changed, ChangedJobs, DiscardJobs, JobAt, RedriveJobs
from penstock.jobs.changed_item import Each, Item, first_of_each, item_of
from penstock.jobs.dispatch import Dispatch
from penstock.jobs.together import Together

AT_ONCE = 4  # commands; each is a batch, and the server has room for 50 of them a stream

_encode = msgspec.json.Encoder().encode


class DeadInBulk:
    """Carries out RedriveJobs and DiscardJobs; see `Decider.own`."""

    def __init__(self, together: Together, dispatch: Dispatch) -> None:
        self._together = together
        self._dispatch = dispatch
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def redrive(self, command: Envelope, data: RedriveJobs) -> Outcome:
        """Redrive them all. Raises Unavailable: some may be redriven then, and none of them is
        redriven twice when the command comes again.
        """
        return await self._all(command, data.jobs, RedriveJob(reason=data.reason))

    async def discard(self, command: Envelope, data: DiscardJobs) -> Outcome:
        """Discard them all. Raises as `redrive`."""
        return await self._all(command, data.jobs, DiscardJob(reason=data.reason))

    async def _all(self, command: Envelope, jobs: Sequence[JobAt], each: Each) -> Outcome:
        async with self._slots:
            became = [item_of(command, job, index, each) for index, job in enumerate(jobs)]
            items = [one for one in became if isinstance(one, Item)]
            await self._stored(first_of_each(items), command, each)
            rest = [item for item in items if item.changed is None]
            await self._together.each_by_itself(rest)
        told = [one.changed if isinstance(one, Item) else one for one in became]
        return _outcome(command, [one for one in told if one is not None])

    async def _stored(self, items: Sequence[Item], command: Envelope, each: Each) -> None:
        items = await self._together.store(items, each)
        if isinstance(each, RedriveJob):  # a job that is discarded was withdrawn when it failed
            await self._dispatch.all([item.after for item in items if item.after], command)
        for item in items:
            item.changed = Changed(id=item.command.subject, sequence=item.stored)


def _outcome(command: Envelope, jobs: Sequence[Changed]) -> Outcome:
    sequence = max((job.sequence for job in jobs), default=0)
    data = msgspec.Raw(_encode(ChangedJobs(jobs=tuple(jobs))))
    return Outcome(id=command.id, sequence=sequence, data=data)
