"""Redrives or discards many dead jobs by one command: their events in one batch, then their items.

Each is changed as by a command of its own, whose id follows from the whole one's. One that is still
as the caller saw it goes with the others; all the rest, and what an earlier try left half done,
goes the way of a single command. Never decides: that is `domain`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from penstock.contracts.answers import Outcome
from penstock.contracts.envelope import Envelope, encode, type_of, wrap
from penstock.contracts.errors import InvalidMessage, PenstockError, Unavailable
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import SERVICE, DiscardJob, RedriveJob
from penstock.contracts.jobs_bulk import Changed, ChangedJobs, DiscardJobs, JobAt, RedriveJobs
from penstock.contracts.subjects import EXPECTED, token
from penstock.infra.bus import Bus, Message, StreamError
from penstock.infra.commit import publish_batch
from penstock.infra.deciding.aggregate import Aggregate
from penstock.infra.deciding.decider import Context, Decider
from penstock.infra.event_log import WRONG_LAST_SEQUENCE
from penstock.infra.storing import REPLY
from penstock.jobs.dispatch import Dispatch, is_plain
from penstock.jobs.domain import State, decide, evolve
from penstock.jobs.latest import Latest

AT_ONCE = 4  # commands; each is a batch, and the server has room for 50 of them a stream
ONE_BY_ONE = 32  # jobs of a command that go each by itself, at a time
TRIES = 3  # with those that are still as they were

_encode = msgspec.json.Encoder().encode


class _Item(msgspec.Struct):
    """One job of a command: the command that it would be by itself, and what became of it."""

    command: Envelope
    sequence: int
    event: Envelope | None = None
    after: Aggregate[Any] | None = None
    changed: Changed | None = None


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

    async def _all(
        self, command: Envelope, jobs: Sequence[JobAt], each: RedriveJob | DiscardJob
    ) -> Outcome:
        async with self._slots:
            became = [_item(command, job, index, each) for index, job in enumerate(jobs)]
            items = [one for one in became if isinstance(one, _Item)]
            await self._together(_first_of_each(items), command, each)
            await self._each_by_itself([item for item in items if item.changed is None])
        told = [one.changed if isinstance(one, _Item) else one for one in became]
        return _outcome(command, [one for one in told if one is not None])

    # -- all in one --------------------------------------------------------------------------

    async def _together(
        self, items: Sequence[_Item], command: Envelope, each: RedriveJob | DiscardJob
    ) -> None:
        for _ in range(TRIES):
            items = await self._decided(items, each)
            if not items or await self._stored(items):
                break
        else:
            return
        if isinstance(each, RedriveJob):  # a job that is discarded was withdrawn when it failed
            await self._dispatch.all([item.after for item in items if item.after], command)
        for item in items:
            item.changed = Changed(id=item.command.subject, sequence=_sequence(item))

    async def _decided(self, items: Sequence[_Item], each: RedriveJob | DiscardJob) -> list[_Item]:
        """Those to be stored, with their event: they are still as they were seen."""
        jobs = await self._latest.of([item.command.subject for item in items])
        now = datetime.now(UTC)
        for item in items:
            job = jobs.get(item.command.subject)
            item.event = None
            if job is not None and job.sequence == item.sequence:
                _decide(item, job, each, now)
        return [item for item in items if item.event]

    async def _stored(self, items: Sequence[_Item]) -> bool:
        """Whether all are stored; none is if one has moved on."""
        try:
            last = await publish_batch(self._bus, [self._message(i) for i in items], timeout=REPLY)
        except StreamError as error:
            if error.err_code not in WRONG_LAST_SEQUENCE:
                raise
            return False
        for sequence, item in enumerate(items, last - len(items) + 1):
            assert item.after
            item.after.sequence = sequence
        return True

    def _message(self, item: _Item) -> Message:
        assert item.event
        subject = self._bus.subjects.event(SERVICE, item.command.subject)
        return subject, encode(item.event), {EXPECTED: str(item.sequence)}

    # -- each by itself ----------------------------------------------------------------------

    async def _each_by_itself(self, items: Sequence[_Item]) -> None:
        slots = asyncio.Semaphore(ONE_BY_ONE)

        async def one(item: _Item) -> None:
            async with slots:
                item.changed = await self._by_itself(item)

        done = await asyncio.gather(*map(one, items), return_exceptions=True)
        for error in done:
            if error is not None:
                raise error

    async def _by_itself(self, item: _Item) -> Changed:
        id = item.command.subject
        try:
            outcome = await self._decider.handle(item.command)
        except Unavailable:
            raise
        except PenstockError as refusal:
            return Changed(id=id, problem=refusal.problem())
        return Changed(id=id, sequence=outcome.sequence)


def _item(
    command: Envelope, job: JobAt, index: int, each: RedriveJob | DiscardJob
) -> _Item | Changed:
    """What one job's change would be as a command by itself."""
    try:
        token(job.id)
        if job.id == command.subject:
            raise InvalidMessage(
                f"{job.id!r} is the id of all these jobs together; use another one."
            )
    except InvalidMessage as refusal:
        return Changed(id=job.id, problem=refusal.problem())
    itself = replace(
        command,
        id=f"{command.id}-{index}",
        subject=job.id,
        type=str(type_of(type(each))),
        data=msgspec.Raw(_encode(each)),
    )
    return _Item(itself, job.sequence)


def _first_of_each(items: Sequence[_Item]) -> list[_Item]:
    """Without those whose id is another's before."""
    return list({item.command.subject: item for item in reversed(items)}.values())[::-1]


def _decide(item: _Item, job: Aggregate[Any], each: RedriveJob | DiscardJob, now: datetime) -> None:
    """Give the item its event, or what it became without one."""
    command = item.command
    try:
        events = decide(job.state, each, Context(now, command))
    except PenstockError as refusal:
        item.changed = Changed(id=job.id, problem=refusal.problem())
        return
    if not events:
        item.changed = Changed(id=job.id, sequence=job.sequence)
        return
    [data] = events
    event = wrap(
        data,
        id=f"{command.id}:1",
        subject=job.id,
        time=now,
        correlationid=command.correlationid,
        cause=command,
        actor=command.actor,
        version=job.version + 1,
        traceparent=command.traceparent,
    )
    after = evolve(job.state, data, event)
    if isinstance(after, JobState) and (after.discarded or is_plain(after)):
        item.event = event
        item.after = Aggregate(job.id, after, event.version, last=event)


def _sequence(item: _Item) -> int:
    return item.after.sequence if item.after else 0


def _outcome(command: Envelope, jobs: Sequence[Changed]) -> Outcome:
    sequence = max((job.sequence for job in jobs), default=0)
    data = msgspec.Raw(_encode(ChangedJobs(jobs=tuple(jobs))))
    return Outcome(id=command.id, sequence=sequence, data=data)
