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
from penstock.infra.fast_ingest import ingest
from penstock.infra.shared_batches import SharedBatches
from penstock.infra.storing import REPLY
from penstock.jobs.job import ready

Job = Aggregate[JobState]


class Offers:
    """Puts items into the work queue.

    In `fsync` durability those that come together are stored together, because the server syncs
    once a batch; in `os` each by itself, in one go where there are many.
    """

    def __init__(self, bus: Bus, *, durability: Durability = "fsync") -> None:
        self._bus = bus
        self._is_synced = durability == "fsync"
        self._batches = SharedBatches(bus, timeout=REPLY)

    async def offer(self, job: Job) -> None:
        """Give workers an item. Raises Unavailable, or Timeout: offer it again then."""
        if self._is_synced:
            await self._batches.publish([self.item(job)])
        else:
            await self._bus.publish_acked(*self.item(job))

    async def offer_all(self, jobs: Sequence[Job]) -> None:
        """The same for several, together where they are many. Raises as `offer`: some are offered
        then.
        """
        await self.put([self.item(job) for job in jobs])

    async def put(self, items: list[Message]) -> None:
        """Put these items, and no others of the same jobs. Raises as `offer_all`."""
        while items:
            count = _fitting(items)
            await self._publish(items[:count])
            del items[:count]

    async def _publish(self, items: Sequence[Message]) -> None:
        if len(items) >= FEW:
            try:
                if await self._publish_together(items):
                    return
            except StreamError:
                pass  # one of them was offered before: each tells by itself
        await asyncio.gather(*(self._bus.publish_acked(*item) for item in items))

    async def _publish_together(self, items: Sequence[Message]) -> bool:
        if self._is_synced:
            await self._batches.publish(items)
            return True
        return await ingest(self._bus, items, timeout=REPLY)

    def item(self, job: Job) -> Message:
        """The message for a job that may be run as it is now."""
        state, last = job.state, job.last
        assert state is not None and last is not None
        return self.message(state, last, ready(state, job.sequence))

    def message(self, state: JobState, last: Envelope, ready: JobReady) -> Message:
        """The message with the item `ready` of a job, whose last event is `last`."""
        item = envelope_of(state, last, ready, datetime.now(UTC))
        subject = self._bus.subjects.work(state.queue, state.priority, state.id)
        return subject, encode(item), {MSG_ID: item.id}


def envelope_of(state: JobState, last: Envelope, ready: JobReady, now: datetime) -> Envelope:
    """What goes around `ready`."""
    return wrap(
        ready,
        id=f"{state.id}:{ready.sequence}",
        subject=state.id,
        time=now,
        correlationid=last.correlationid,
        cause=last,
        actor=last.actor,
        version=last.version,
        traceparent=last.traceparent,
    )


def _fitting(items: Sequence[Message]) -> int:
    """How many of the first go into one batch."""
    size = 0
    for count, (_, body, _) in enumerate(items):
        size += len(body)
        if count == MAX_BATCH or (count and size > BATCH_BYTES):
            return count
    return len(items)
