"""Large results of jobs in the object store: removed with their job, or when there are too many.

A job whose result is gone keeps its events. Never reads a result.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime

from penstock.contracts.envelope import Envelope, unwrap
from penstock.contracts.job_results import PREFIX, result_name, result_of
from penstock.contracts.jobs import JobCompleted, JobQueued, JobStarted
from penstock.infra.event_log import JetStreamEventLog, Recorded
from penstock.infra.objects import Objects

DAY = 86_400.0  # seconds


class Results:
    """Those of all jobs. They are kept for `age` days, and of each job name the newest `count`; 0
    is for ever, and all.
    """

    def __init__(self, objects: Objects, log: JetStreamEventLog, age: float, count: int) -> None:
        self._objects = objects
        self._log = log
        self._age = age
        self._count = count

    async def look(self) -> None:
        """Remove what is too old or too many. Raises Unavailable or Timeout."""
        by_name: dict[str, list[tuple[int, str]]] = defaultdict(list)
        async for stored in self._objects.names(PREFIX):
            name, started = result_of(stored)
            by_name[name].append((started, stored))
        for found in by_name.values():
            found.sort()
            too_many = len(found) - self._count if self._count else 0
            for place, (started, stored) in enumerate(found):
                if place >= too_many and not await self._is_old(started):
                    break  # and so are all after it
                await self._objects.remove(stored)

    async def _is_old(self, started: int) -> bool:
        """Whether the attempt began so long ago, or belongs to a job that is gone."""
        if not self._age:
            return False
        record = await self._log.get(started)
        return record is None or (datetime.now(UTC) - record.event.time).total_seconds() > (
            self._age * DAY
        )

    async def remove(self, command: Envelope, events: Sequence[Recorded]) -> None:
        """Remove what attempts at a job that is erased have stored, accepted or not; see `Eraser`.

        A job that was done at the first attempt, with a small result, costs nothing.
        """
        data = [unwrap(record.event) for record in events]
        if any(isinstance(one, JobCompleted) and one.stored is None for one in data):
            started = [one for one in data if isinstance(one, JobStarted)]
            if len(started) == 1:
                return
        name = next((one.name for one in data if isinstance(one, JobQueued)), "")
        for one, record in zip(data, events, strict=True):
            if isinstance(one, JobStarted):
                await self._objects.remove(result_name(name, command.subject, record.sequence))
