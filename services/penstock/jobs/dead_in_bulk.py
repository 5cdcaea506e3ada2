"""Redrives or discards many dead jobs by one command: their events in one batch, then their items.

Each is changed as by a command of its own, whose id follows from the whole one's. One that is still
as the caller saw it goes with the others; all the rest, and what an earlier try left half done,
goes the way of a single command. Never decides: that is `domain`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from penstock.contracts.answers import Outcome
from penstock.contracts.envelope import Envelope, encode
from penstock.contracts.errors import PenstockError, Unavailable
from penstock.contracts.jobs import SERVICE, DiscardJob, RedriveJob
from penstock.contracts.jobs_bulk import Changed, ChangedJobs, DiscardJobs, JobAt, RedriveJobs
from penstock.contracts.subjects import EXPECTED
from penstock.infra.bus import Bus, Message, StreamError
from penstock.infra.commit import publish_batch
from penstock.infra.deciding.decider import Decider
from penstock.infra.event_log import WRONG_LAST_SEQUENCE
from penstock.infra.storing import REPLY
from penstock.jobs.dead_item import Each, Item, decide_on, first_of_each, item_of
from penstock.jobs.dispatch import Dispatch
from penstock.jobs.domain import State
from penstock.jobs.latest import Latest

AT_ONCE = 4  # commands; each is a batch, and the server has room for 50 of them a stream
ONE_BY_ONE = 32  # jobs of a command that go each by itself, at a time
TRIES = 3  # with those that are still as they were

_encode = msgspec.json.Encoder().encode


class DeadInBulk:
    """Carries out RedriveJobs and DiscardJobs; see `Decider.own`."""

    def __init__(
        self, bus: Bus, decider: Decider[State], dispatch: Dispatch, latest: Latest
    ) -> None:
        self._bus = bus
        self._decider = decider
        self._dispatch = dispatch
        self._latest = latest
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
            await self._together(first_of_each(items), command, each)
            await self._each_by_itself([item for item in items if item.changed is None])
        told = [one.changed if isinstance(one, Item) else one for one in became]
        return _outcome(command, [one for one in told if one is not None])

    # -- all in one --------------------------------------------------------------------------

    async def _together(self, items: Sequence[Item], command: Envelope, each: Each) -> None:
        for _ in range(TRIES):
            items = await self._decided(items, each)
            if not items or await self._stored(items):
                break
        else:
            return
        if isinstance(each, RedriveJob):  # a job that is discarded was withdrawn when it failed
            await self._dispatch.all([item.after for item in items if item.after], command)
        for item in items:
            item.changed = Changed(id=item.command.subject, sequence=item.stored)

    async def _decided(self, items: Sequence[Item], each: Each) -> list[Item]:
        """Those to be stored, with their event: they are still as they were seen."""
        jobs = await self._latest.of([item.command.subject for item in items])
        now = datetime.now(UTC)
        for item in items:
            job = jobs.get(item.command.subject)
            item.event = None
            if job is not None and job.sequence == item.sequence:
                decide_on(item, job, each, now)
        return [item for item in items if item.event]

    async def _stored(self, items: Sequence[Item]) -> bool:
        """Whether all are stored; none is if one has moved on."""
        try:
            last = await publish_batch(self._bus, [self._message(i) for i in items], timeout=REPLY)
        except StreamError as error:
            if error.err_code not in WRONG_LAST_SEQUENCE:
                raise
            return False
        for sequence, item in enumerate(items, last - len(items) + 1):
            if item.after:
                item.after.sequence = item.stored = sequence
        return True

    def _message(self, item: Item) -> Message:
        assert item.event
        subject = self._bus.subjects.event(SERVICE, item.command.subject)
        return subject, encode(item.event), {EXPECTED: str(item.sequence)}

    # -- each by itself ----------------------------------------------------------------------

    async def _each_by_itself(self, items: Sequence[Item]) -> None:
        slots = asyncio.Semaphore(ONE_BY_ONE)

        async def one(item: Item) -> None:
            async with slots:
                item.changed = await self._by_itself(item)

        done = await asyncio.gather(*map(one, items), return_exceptions=True)
        for error in done:
            if error is not None:
                raise error

    async def _by_itself(self, item: Item) -> Changed:
        id = item.command.subject
        try:
            outcome = await self._decider.handle(item.command)
        except Unavailable:
            raise
        except PenstockError as refusal:
            return Changed(id=id, problem=refusal.problem())
        return Changed(id=id, sequence=outcome.sequence)


def _outcome(command: Envelope, jobs: Sequence[Changed]) -> Outcome:
    sequence = max((job.sequence for job in jobs), default=0)
    data = msgspec.Raw(_encode(ChangedJobs(jobs=tuple(jobs))))
    return Outcome(id=command.id, sequence=sequence, data=data)
