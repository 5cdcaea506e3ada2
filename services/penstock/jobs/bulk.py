"""Enqueues many jobs by one command: their events in atomic batches, then their work items.

A crash between any two steps is finished when the command comes again: the ids of jobs and events
follow from the command, and a job that is there already goes the way of a job by itself. Never
decides: that is `domain`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec.structs import replace

from penstock.contracts.answers import Outcome
from penstock.contracts.envelope import Envelope, decode, encode, invalid, type_of, unwrap, wrap
from penstock.contracts.errors import InvalidMessage, PenstockError, Unavailable
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import SERVICE, EnqueueJob, Origin
from penstock.contracts.jobs_bulk import Enqueued, EnqueuedJobs, EnqueueJobs
from penstock.contracts.subjects import EXPECTED, token
from penstock.infra.bus import Bus, Message, StreamError
from penstock.infra.deciding.decider import Aggregate, Context, Decider, LookUp
from penstock.infra.event_log import WRONG_LAST_SEQUENCE
from penstock.infra.shared_batches import SharedBatches
from penstock.infra.storing import REPLY, read
from penstock.jobs.dispatch import Dispatch
from penstock.jobs.domain import State, decide, evolve

AT_ONCE = 8  # commands: as many as fill the batches on their way and the next ones
ONE_BY_ONE = 32  # jobs of a command that go each by itself, at a time


class _Id(msgspec.Struct, frozen=True):
    """What a JobSpec has beyond an EnqueueJob."""

    id: str | None = None


_decode = msgspec.json.Decoder(EnqueueJob).decode
_decode_id = msgspec.json.Decoder(_Id).decode
_decode_outcome = msgspec.json.Decoder(JobState).decode
_encode = msgspec.json.Encoder().encode
_ENQUEUE = str(type_of(EnqueueJob))


class Item(msgspec.Struct):
    """One job of many: the command that it would be by itself, and what became of it."""

    command: Envelope
    data: EnqueueJob
    event: Envelope | None = None
    state: State | None = None
    enqueued: Enqueued | None = None


class BulkEnqueue:
    """Carries out EnqueueJobs; see `Decider.own`. `look_up` is the service's, if it has one."""

    def __init__(
        self,
        bus: Bus,
        decider: Decider[State],
        dispatch: Dispatch,
        look_up: LookUp[State] | None = None,
    ) -> None:
        self._bus = bus
        self._decider = decider
        self._dispatch = dispatch
        self._look_up = look_up
        self._stream = bus.subjects.event_stream(SERVICE)
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._batches = SharedBatches(bus, timeout=REPLY)

    async def __call__(self, command: Envelope, data: EnqueueJobs) -> Outcome:
        """Enqueue them all. Raises Unavailable: some may be enqueued then, and none of them is
        enqueued twice when the command comes again.
        """
        jobs = [_item(command, raw, index) for index, raw in enumerate(data.jobs)]
        await self.enqueue([job for job in jobs if isinstance(job, Item)], command)
        became = [job.enqueued if isinstance(job, Item) else job for job in jobs]
        return _outcome(command, [one for one in became if one is not None])

    async def enqueue(self, items: Sequence[Item], command: Envelope) -> None:
        """Enqueue up to 500 jobs, which `command` caused; each `enqueued` tells what became of it,
        and `state` how the job stands. Raises as a call does.
        """
        async with self._slots:
            await self._decide(_first_of_each([i for i in items if _is_plain(i.data)]))
            await self._store([item for item in items if item.event], command)
            await self._each_by_itself([item for item in items if item.enqueued is None])

    async def _decide(self, items: Sequence[Item]) -> None:
        now = datetime.now(UTC)
        for item in items:
            now += timedelta.resolution  # what came first in the command has its turn first
            try:
                look_up, load = self._look_up, self._decider.load
                facts = await look_up(item.data, load, item.command) if look_up else None
                [data] = decide(None, item.data, Context(now, item.command, facts))
            except Unavailable:
                raise
            except PenstockError as refusal:
                item.enqueued = Enqueued(id=item.command.subject, problem=refusal.problem())
                continue
            item.event = _event(item.command, data, now)
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
                items, again = await self._parted(items)
                await self._offer(again, command)
            else:
                first = last - len(items) + 1
                await self._offer([(item, first + n) for n, item in enumerate(items)], command)
                return

    async def _offer(self, stored: Sequence[tuple[Item, int]], command: Envelope) -> None:
        """Offer jobs whose first events stand at these sequences, and are their last ones."""
        jobs = [_aggregate(item, sequence) for item, sequence in stored]
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


def _item(command: Envelope, raw: msgspec.Raw, index: int) -> Item | Enqueued:
    """What one job would be as a command by itself."""
    this = f"{command.id}-{index}"
    try:
        data = _decode(raw)
        given = _decode_id(raw).id if _may_have_id(raw) else None
        id = this if given is None else given
        if id == command.subject:
            raise InvalidMessage(f"{id!r} is the id of all these jobs together; use another one.")
        token(id)
    except msgspec.DecodeError as error:
        refusal = invalid(error, "The job", root=f"$.jobs[{index}]")
        return Enqueued(id=this, problem=refusal.problem())
    except InvalidMessage as refusal:
        return Enqueued(id=id, problem=refusal.problem())
    return Item(replace(command, id=this, subject=id, type=_ENQUEUE, data=raw), data)


def _may_have_id(raw: msgspec.Raw) -> bool:
    """False for nearly all that have none: looking for the text costs less than reading."""
    text = bytes(raw)
    return b'"id"' in text or b"\\u" in text


def _is_plain(data: EnqueueJob) -> bool:
    """Whether nothing beside the job itself has to be looked at before it is stored."""
    usual = data.origin is None or _is_of_workflow(data.origin)
    return usual and data.rules.unique_key is None


def _is_of_workflow(origin: Origin) -> bool:
    return origin == Origin(workflow=origin.workflow)


def _first_of_each(items: Sequence[Item]) -> list[Item]:
    """Without those whose id is another's before: these come to a job that is there."""
    return list({item.command.subject: item for item in reversed(items)}.values())[::-1]


def _event(command: Envelope, data: msgspec.Struct, now: datetime) -> Envelope:
    return wrap(
        data,
        id=f"{command.id}:1",
        subject=command.subject,
        time=now,
        correlationid=command.correlationid,
        cause=command,
        actor=command.actor,
        version=1,
        traceparent=command.traceparent,
    )


def _aggregate(item: Item, sequence: int) -> Aggregate[Any]:
    return Aggregate(item.command.subject, item.state, 1, sequence, last=item.event)


def _outcome(command: Envelope, jobs: Sequence[Enqueued]) -> Outcome:
    sequence = max((job.sequence for job in jobs), default=0)
    data = msgspec.Raw(_encode(EnqueuedJobs(jobs=tuple(jobs))))
    return Outcome(id=command.id, sequence=sequence, data=data)
