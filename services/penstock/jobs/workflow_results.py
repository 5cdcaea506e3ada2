"""What the steps of a workflow returned, from their jobs or the object store. Never changes it."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.contracts.errors import NotFound, TooLarge
from penstock.contracts.job_state import JobState
from penstock.contracts.workflow_state import WorkflowState
from penstock.infra.deciding.decider import Load
from penstock.infra.objects import Objects
from penstock.jobs.at_once import each
from penstock.jobs.workflow_jobs import gone

LARGEST = 64 * 1024 * 1024  # bytes of JSON of one result; this service has it in memory


class StepResults:
    """`load` is the service's own."""

    def __init__(self, objects: Objects, load: Load[Any]) -> None:
        self._objects = objects
        self._load = load

    async def of_step(self, state: WorkflowState, key: str) -> Any:
        """What a completed step returned; of one with `each`, the list of it.

        Raises NotFound if it is gone, TooLarge above 64 MiB, Unavailable or Timeout.
        """
        ids = state.job_ids(key)
        found: list[Any] = [None] * len(ids)

        async def get(index: int) -> None:
            job = (await self._load(ids[index])).state
            if not isinstance(job, JobState):
                raise gone(ids[index])
            found[index] = await self.of_job(job)

        await each(range(len(ids)), get)
        if state.step(key).each is not None:
            return found
        return found[0] if found else None

    async def of_job(self, job: JobState) -> Any:
        """What a job returned, None if it is not completed. Raises as `of_step` does."""
        if job.state != "completed":
            return None
        if job.stored is None:
            return job.result
        return msgspec.json.decode(await self._kept(job, job.stored))

    async def _kept(self, job: JobState, stored: str) -> bytes:
        try:
            size = (await self._objects.info(stored)).size
            if size > LARGEST:
                raise TooLarge(
                    f"What the job {job.id!r} returned has {size} bytes and a later step may use "
                    f"results of at most {LARGEST}; store it elsewhere and return where."
                )
            return await self._objects.get(stored)
        except NotFound as error:
            raise NotFound(
                f"The result of the job {job.id!r} was kept for as long as PENSTOCK_RESULT_AGE and "
                "PENSTOCK_RESULT_COUNT say, and is gone.",
                id=job.id,
            ) from error
