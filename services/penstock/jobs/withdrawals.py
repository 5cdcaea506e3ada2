"""Takes back what was made for jobs that are not to be run any more: work items and timers.

Most have neither: what there is is looked up for all who ask together, and only that is removed.
What is overlooked, since a replica is behind, does no harm: a worker finds by the fence that the
job has moved on, and a timer does nothing. Never changes a job.
"""

from __future__ import annotations

import asyncio

from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import SERVICE
from penstock.infra.bus import Bus
from penstock.infra.consuming.removal import remove_message
from penstock.infra.last_messages import LastMessages


class Withdrawals:
    """Made once a service."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._streams = {name: bus.subjects.stream(name) for name in ("work", "sched")}
        self._last = {name: LastMessages(bus, stream) for name, stream in self._streams.items()}

    async def withdraw(self, job: JobState) -> None:
        """Remove the item and the timer of the job, and have its worker stop.

        Raises Unavailable.
        """
        subjects = self._bus.subjects
        await asyncio.gather(
            self._remove("work", subjects.work(job.queue, job.priority, job.id)),
            self._remove("sched", subjects.timer(SERVICE, job.id), subjects.due(SERVICE, job.id)),
        )
        # Whoever runs it stops at once; who does not hear it finds out by its lease.
        await self._bus.publish(subjects.withdrawn(), job.id.encode())

    async def _remove(self, stream: str, *subjects: str) -> None:
        found = await self._last[stream].of(*subjects)
        for message in found.values():
            await remove_message(self._bus, self._streams[stream], message.sequence)
