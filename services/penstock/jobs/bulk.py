"""Enqueues many jobs by one command: their events in atomic batches, then their work items.

A crash between any two steps is finished when the command comes again: the ids of jobs and events
follow from the command, and a job that is there already goes the way of a job by itself. Never
decides: that is `domain`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from penstock.contracts.answers import Outcome
from penstock.contracts.envelope import Envelope, decode, encode, unwrap
from penstock.contracts.errors import PenstockError, Unavailable
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import SERVICE
from penstock.contracts.jobs_bulk import Enqueued, EnqueuedJobs, EnqueueJobs
from penstock.contracts.subjects import EXPECTED
from penstock.infra.bus import Bus, Message, StreamError
from penstock.infra.deciding.decider import Context, Decider
from penstock.infra.event_log import WRONG_LAST_SEQUENCE
from penstock.infra.shared_batches import SharedBatches
from penstock.infra.storing import REPLY, read
from penstock.jobs.admission_entrance import Entrance
from penstock.jobs.bulk_items import (
    Item,
    aggregate_of,
    event_of,
    first_of_each,
    is_asking_nobody,
    item_of,
)
from penstock.jobs.bulk_usual import usual
from penstock.jobs.dispatch import Dispatch
from penstock.jobs.domain import State, decide, evolve
from penstock.jobs.offers import Offers

AT_ONCE = 8  # commands: as many as fill the batches on their way and the next ones
ONE_BY_ONE = 32  # jobs of a command that go each by itself, at a time


_decode_outcome = msgspec.json.Decoder(JobState).decode
_encode = msgspec.json.Encoder().encode


class BulkEnqueue:
    """Carries out EnqueueJobs; see `Decider.own`. `entrance` is what the service looks up."""

    def __init__(
        self,
        bus: Bus,
        decider: Decider[State],
        dispatch: Dispatch,
        offers: Offers,
        entrance: Entrance,
    ) -> None:
        self._bus = bus
        self._decider = decider
        self._dispatch = dispatch
        self._offers = offers
        self._entrance = entrance
        self._stream = bus.subjects.event_stream(SERVICE)
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._batches = SharedBatches(bus, timeout=REPLY)

    async def __call__(self, command: Envelope, data: EnqueueJobs) -> Outcome:
        """Enqueue them all. Raises Unavailable: some may be enqueued then, and none of them is
        enqueued twice when the command comes again.
        """
        became, are_there = await self._enqueue_usual(command, data)
        items: dict[int, Item] = {}
        for index, raw in enumerate(data.jobs):
            if index in became:
                continue
            match item_of(command, raw, index):
                case Item() as item:
                    items[index] = item
                case refused:
                    became[index] = refused
        if items:
            await self.enqueue(list(items.values()), command, are_there=are_there)
        became |= {index: item.enqueued for index, item in items.items() if item.enqueued}
        return _outcome(command, [became[index] for index in range(len(data.jobs))])

    async def _enqueue_usual(
        self, command: Envelope, data: EnqueueJobs
    ) -> tuple[dict[int, Enqueued], bool]:
        """Enqueue those that need nothing but to be stored and offered; what became of each.

        None of them if something is stored for one already, which is told as well.
        """
        async with self._slots:
            jobs = list(usual(command, data.jobs, self._bus.subjects, self._entrance.refusal))
            if not jobs:
                return {}, False
            try:
                last = await self._batches.publish([job.kind.event(job) for job in jobs])
            except StreamError as error:
                if error.err_code not in WRONG_LAST_SEQUENCE:
                    raise
                return {}, True
            stored = list(enumerate(jobs, last - len(jobs) + 1))
            now = _encode(datetime.now(UTC))
            await self._offers.put([job.kind.item(job, n, now) for n, job in stored])
            return {job.index: Enqueued(id=job.id, sequence=n) for n, job in stored}, False

    async def enqueue(
        self, items: Sequence[Item], command: Envelope, *, are_there: bool = False
    ) -> None:
        """Enqueue up to 500 jobs, which `command` caused; each `enqueued` tells what became of it,
        and `state` how the job stands. With `are_there` something is stored for some already.
        Raises as a call does.
        """
        async with self._slots:
            await self._decide(first_of_each([i for i in items if is_asking_nobody(i.data)]))
            decided: Sequence[Item] = [item for item in items if item.event]
            if are_there and decided:  # to try would cost another batch, and that of others
                decided = await self._without_stored(decided, command)
            await self._store(decided, command)
            await self._each_by_itself([item for item in items if item.enqueued is None])

    async def _decide(self, items: Sequence[Item]) -> None:
        now = datetime.now(UTC)
        for item in items:
            now += timedelta.resolution  # what came first in the command has its turn first
            try:
                facts = await self._entrance(item.data, self._decider.load, item.command)
                [data] = decide(None, item.data, Context(now, item.command, facts))
            except Unavailable:
                raise
            except PenstockError as refusal:
                item.enqueued = Enqueued(id=item.command.subject, problem=refusal.problem())
                continue
            item.event = event_of(item.command, data, now)
            queued = evolve(None, data, item.event)
            assert isinstance(queued, JobState)
            item.state = queued

    # -- all in one --------------------------------------------------------------------------

    async def _store(self, items: Sequence[Item], command: Envelope) -> None:
        """Store and offer those of which nothing is stored yet."""
        while items:
            try:
                last = await self._batches.publish([self._message(item) for item in items])
            except StreamError as error:
                if error.err_code not in WRONG_LAST_SEQUENCE:
                    raise
                items = await self._without_stored(items, command)
            else:
                first = last - len(items) + 1
                await self._offer([(item, first + n) for n, item in enumerate(items)], command)
                return

    async def _without_stored(self, items: Sequence[Item], command: Envelope) -> Sequence[Item]:
        """Those of which nothing is stored, once the others are offered. Raises as `_parted`."""
        items, again = await self._parted(items)
        await self._offer(again, command)
        return items

    async def _offer(self, stored: Sequence[tuple[Item, int]], command: Envelope) -> None:
        """Offer jobs whose first events stand at these sequences, and are their last ones."""
        jobs = [aggregate_of(item, sequence) for item, sequence in stored]
        if jobs:
            await self._dispatch.all(jobs, command)
        for item, sequence in stored:
            item.enqueued = Enqueued(id=item.command.subject, sequence=sequence)

    def _message(self, item: Item) -> Message:
        assert item.event
        subject = self._bus.subjects.event(SERVICE, item.command.subject)
        return subject, encode(item.event), {EXPECTED: "0"}

    async def _parted(self, items: Sequence[Item]) -> tuple[list[Item], Sequence[tuple[Item, int]]]:
        """Those of which nothing is stored, and those that an earlier try stored and that nothing
        happened to since, with their sequences. Raises Unavailable if all are of the former.
        """
        by_subject = {self._bus.subjects.event(SERVICE, i.command.subject): i for i in items}
        request = {"multi_last": list(by_subject)}
        found = await read(self._bus, self._stream, request, timeout=self._bus.timeout)
        if not found:
            raise Unavailable("What was stored for some of the jobs cannot be read yet.")
        again: list[tuple[Item, int]] = []
        for message in found:
            item, event = by_subject.pop(message.subject), decode(message.data)
            if event.version == 1 and event.causationid == item.command.id:
                item.event, item.state = event, evolve(None, unwrap(event), event)
                again.append((item, message.sequence))
        return list(by_subject.values()), again

    # -- each by itself ----------------------------------------------------------------------

    async def _each_by_itself(self, items: Sequence[Item]) -> None:
        """Those that were there, perhaps by an earlier try, and those that others wait for."""
        slots = asyncio.Semaphore(ONE_BY_ONE)

        async def one(item: Item) -> None:
            async with slots:
                item.enqueued = await self._by_itself(item)

        done = await asyncio.gather(*map(one, items), return_exceptions=True)
        for error in done:
            if error is not None:
                raise error

    async def _by_itself(self, item: Item) -> Enqueued:
        command = item.command
        try:
            outcome = await self._decider.handle(command)
            item.state = job = _decode_outcome(outcome.data)
            existed = not (await self._decider.load(job.id)).knows(command.id)
        except Unavailable:
            raise
        except PenstockError as refusal:
            return Enqueued(id=command.subject, problem=refusal.problem())
        return Enqueued(id=job.id, sequence=outcome.sequence, state=job.state, existed=existed)


def _outcome(command: Envelope, jobs: Sequence[Enqueued]) -> Outcome:
    sequence = max((job.sequence for job in jobs), default=0)
    data = msgspec.Raw(_encode(EnqueuedJobs(jobs=tuple(jobs))))
    return Outcome(id=command.id, sequence=sequence, data=data)
