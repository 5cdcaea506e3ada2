"""Work items: what workers are given of jobs that may be run. Never decides which may.

An item may be given again: it is known by its Nats-Msg-Id, and fenced by its sequence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from penstock.contracts.envelope import Envelope, encode, wrap
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import JobReady
from penstock.contracts.subjects import MSG_ID
from penstock.infra.append_many import BATCH_BYTES, FEW
from penstock.infra.bus import Bus, Message, StreamError
from penstock.infra.commit import MAX_BATCH
from penstock.infra.deciding.aggregate import Aggregate
from penstock.infra.event_log import Durability
from penstock.infra.shared_batches import SharedBatches
from penstock.infra.storing import REPLY
from penstock.jobs.job import ready

Job = Aggregate[JobState]


class Offers:
    """Puts items into the work queue.

    In `fsync` durability those that come together are stored together, because the server syncs
    once a batch; in `os` each is published at once.
    """

    def __init__(self, bus: Bus, *, durability: Durability = "fsync") -> None:
        self._bus = bus
        self._batches = SharedBatches(bus, timeout=REPLY)
        self._syncs = durability == "fsync"

    async def offer(self, job: Job) -> None:
        """Give workers an item. Raises Unavailable, or Timeout: offer it again then."""
        if self._syncs:
            await self._batches.publish([self.item(job)])
        else:
            await self._bus.publish_acked(*self.item(job))

    async def offer_all(self, jobs: Sequence[Job]) -> None:
        """The same for several, together where they are many. Raises as `offer`: some are offered
        then.
        """
        items = [self.item(job) for job in jobs]
        while items:
            count = _fitting(items)
            await self._publish(items[:count])
            del items[:count]

    async def _publish(self, items: Sequence[Message]) -> None:
        if len(items) >= FEW:
            try:
                await self._batches.publish(items)
                return
            except StreamError:
                pass  # one of them was offered before: each tells by itself
        await asyncio.gather(*(self._bus.publish_acked(*item) for item in items))

    def item(self, job: Job) -> Message:
        """The message for a job that may be run as it is now."""
        state, last = job.state, job.last
        assert state is not None and last is not None
        return self.message(state, last, ready(state, job.sequence))

    def message(self, state: JobState, last: Envelope, ready: JobReady) -> Message:
        """The message with the item `ready` of a job, whose last event is `last`."""
        item = wrap(
            ready,
            id=f"{state.id}:{ready.sequence}",
            subject=state.id,
            time=datetime.now(UTC),
            correlationid=last.correlationid,
            cause=last,
            actor=last.actor,
            version=last.version,
            traceparent=last.traceparent,
        )
        subject = self._bus.subjects.work(state.queue, state.priority, state.id)
        return subject, encode(item), {MSG_ID: item.id}


def _fitting(items: Sequence[Message]) -> int:
    """How many of the first go into one batch."""
    size = 0
    for count, (_, body, _) in enumerate(items):
        size += len(body)
        if count == MAX_BATCH or (count and size > BATCH_BYTES):
            return count
    return len(items)
