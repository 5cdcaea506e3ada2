"""Changes many jobs together: their events in one batch, as each would be by a command of its own.

One that cannot go with others, or that an earlier try left half done, goes the way of a single
command. Never decides, and never does what follows from the events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from penstock.contracts.envelope import encode
from penstock.contracts.errors import PenstockError, Unavailable
from penstock.contracts.jobs import SERVICE
from penstock.contracts.jobs_bulk import Changed
from penstock.contracts.subjects import EXPECTED
from penstock.infra.bus import Bus, Message, StreamError
from penstock.infra.commit import publish_batch
from penstock.infra.deciding.decider import Decider
from penstock.infra.event_log import WRONG_LAST_SEQUENCE
from penstock.infra.storing import REPLY
from penstock.jobs.changed_item import Each, Item, decide_on
from penstock.jobs.domain import State
from penstock.jobs.latest import Latest

ONE_BY_ONE = 32  # jobs that go each by itself, at a time
TRIES = 3  # with those that are still as they were


class Together:
    """Made once a service."""

    def __init__(self, bus: Bus, decider: Decider[State], latest: Latest) -> None:
        self._bus = bus
        self._decider = decider
        self._latest = latest

    async def store(self, items: Sequence[Item], each: Each) -> list[Item]:
        """Those up to 1000 items whose events are stored now, each with the job `after` it.

        Others have `changed` where nothing more is to be done with them. Raises Unavailable, or as
        `publish_batch`: they may be stored then.
        """
        for _ in range(TRIES):
            items = await self._decided(items, each)
            if not items or await self._stored(items):
                return list(items)
        return []

    async def _decided(self, items: Sequence[Item], each: Each) -> list[Item]:
        """Those to be stored, with their event: they are still as they were seen."""
        jobs = await self._latest.of([item.command.subject for item in items])
        now = datetime.now(UTC)
        for item in items:
            job = jobs.get(item.command.subject)
            item.event = None
            if job is not None and item.sequence in (None, job.sequence):
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
        return subject, encode(item.event), {EXPECTED: str(item.before)}

    # -- each by itself ----------------------------------------------------------------------

    async def each_by_itself(self, items: Sequence[Item]) -> None:
        """Carry out the command of each, and what follows from it; see its `changed`.

        Raises Unavailable.
        """
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
