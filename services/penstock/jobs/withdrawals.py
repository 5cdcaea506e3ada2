"""Takes back what was made for jobs that are not to be run any more: work items and timers.

Most have neither: what there is is looked up for all who ask together, and only that is removed.
What is overlooked, since a replica is behind, does no harm: a worker finds by the fence that the
job has moved on, and a timer does nothing. Never changes a job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import SERVICE
from penstock.contracts.subjects import Subjects
from penstock.infra.bus import Bus
from penstock.infra.consuming.removal import remove_message
from penstock.infra.last_messages import LastMessages

TOGETHER = 50  # jobs; an answer that gets too large is asked for again by such parts


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
            self._remove("sched", *_timers(subjects, job)),
        )
        # Whoever runs it stops at once; who does not hear it finds out by its lease.
        await self._bus.publish(subjects.withdrawn(), job.id.encode())

    async def withdraw_all(self, jobs: Sequence[JobState]) -> None:
        """The same for many, of which only those that a worker had are told of."""
        subjects = self._bus.subjects
        items = [subjects.work(job.queue, job.priority, job.id) for job in jobs]
        timers = [subject for job in jobs for subject in _timers(subjects, job)]
        await asyncio.gather(self._remove("work", *items), self._remove("sched", *timers))
        for job in jobs:
            if job.worker is not None:
                await self._bus.publish(subjects.withdrawn(), job.id.encode())

    async def _remove(self, stream: str, *subjects: str) -> None:
        last, name = self._last[stream], self._streams[stream]
        parts = [subjects[at : at + TOGETHER] for at in range(0, len(subjects), TOGETHER)]
        for found in await asyncio.gather(*(last.of(*part) for part in parts)):
            removals = (remove_message(self._bus, name, one.sequence) for one in found.values())
            await asyncio.gather(*removals)


def _timers(subjects: Subjects, job: JobState) -> tuple[str, str]:
    return subjects.timer(SERVICE, job.id), subjects.due(SERVICE, job.id)
