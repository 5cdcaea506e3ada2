"""Large results of jobs in the object store: removed with their job, or when there are too many.

A job whose result is gone keeps its events. Never reads a result.
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock.contracts.envelope import Envelope, unwrap
from penstock.contracts.job_results import result_name
from penstock.contracts.jobs import JobCompleted, JobStarted
from penstock.infra.event_log import Recorded
from penstock.infra.objects import Objects


class Results:
    """Those of all jobs."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def remove(self, command: Envelope, events: Sequence[Recorded]) -> None:
        """Remove what attempts at a job that is erased have stored, accepted or not; see `Eraser`.

        A job that was done at the first attempt, with a small result, costs nothing.
        """
        data = [unwrap(record.event) for record in events]
        if any(isinstance(one, JobCompleted) and one.stored is None for one in data):
            started = [one for one in data if isinstance(one, JobStarted)]
            if len(started) == 1:
                return
        for one, record in zip(data, events, strict=True):
            if isinstance(one, JobStarted):
                await self._objects.remove(result_name(command.subject, record.sequence))
