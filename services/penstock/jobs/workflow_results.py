"""What the steps of a workflow returned, from their jobs or the object store. Never changes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from penstock.contracts.envelope import decode, unwrap
from penstock.contracts.errors import NotFound, TooLarge, Unavailable
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import SERVICE, JobCompleted
from penstock.contracts.lifecycle import Archived, Erased
from penstock.contracts.workflow_state import COMPLETED, WorkflowState
from penstock.infra.bus import Bus
from penstock.infra.last_messages import LastMessages
from penstock.infra.objects import Objects
from penstock.jobs.at_once import each
from penstock.jobs.workflow_jobs import gone

TOGETHER = 500  # jobs whose last events are asked for at a time
LARGEST = 64 * 1024 * 1024  # bytes of JSON of one result; this service has it in memory


class StepResults:
    """Results as the jobs' last events tell them: those of many are read together."""

    def __init__(self, bus: Bus) -> None:
        self._objects = Objects(bus)
        self._subjects = bus.subjects
        self._last = LastMessages(bus, bus.subjects.event_stream(SERVICE))

    async def of_step(self, state: WorkflowState, key: str) -> Any:
        """What a completed step returned; of one with `each`, the list of it, with None for jobs
        whose failure is ignored.

        Raises NotFound if it is gone, TooLarge above 64 MiB, Unavailable or Timeout.
        """
        ids, letters = state.job_ids(key), state.runs[key].jobs or ""
        found: list[Any] = [None] * len(ids)
        completed = [index for index, letter in enumerate(letters) if letter == COMPLETED]

        async def get(index: int) -> None:
            found[index] = await self._of_id(ids[index])

        await each(completed, get, at_once=min(len(completed), TOGETHER))
        if state.step(key).each is not None:
            return found
        return found[0] if found else None

    async def of_steps(self, state: WorkflowState, keys: Iterable[str]) -> dict[str, Any]:
        """As `of_step` for each of them; in place of what cannot be used stands the error."""
        found: dict[str, Any] = {}

        async def get(key: str) -> None:
            try:
                found[key] = await self.of_step(state, key)
            except (NotFound, TooLarge) as error:
                found[key] = error

        asked = list(keys)
        await each(range(len(asked)), lambda n: get(asked[n]), at_once=min(len(asked), TOGETHER))
        return found

    async def _of_id(self, id: str) -> Any:
        subject = self._subjects.event(SERVICE, id)
        last = (await self._last.of(subject)).get(subject)
        end = unwrap(decode(last.data)) if last else None
        if end is None or isinstance(end, Archived | Erased):
            raise gone(id)
        if not isinstance(end, JobCompleted):
            raise Unavailable("The replica that was asked for the job's events lags behind.")
        return await self._of_stored(id, end.stored) if end.stored else end.result

    async def of_job(self, job: JobState) -> Any:
        """What a job returned, None if it is not completed. Raises as `of_step` does."""
        if job.state != "completed":
            return None
        if job.stored is None:
            return job.result
        return await self._of_stored(job.id, job.stored)

    async def _of_stored(self, id: str, stored: str) -> Any:
        return msgspec.json.decode(await self._kept(id, stored))

    async def _kept(self, id: str, stored: str) -> bytes:
        try:
            size = (await self._objects.info(stored)).size
            if size > LARGEST:
                raise TooLarge(
                    f"What the job {id!r} returned has {size} bytes and a later step may use "
                    f"results of at most {LARGEST}; store it elsewhere and return where."
                )
            return await self._objects.get(stored)
        except NotFound as error:
            raise NotFound(
                f"The result of the job {id!r} was kept for as long as PENSTOCK_RESULT_AGE and "
                "PENSTOCK_RESULT_COUNT say, and is gone.",
                id=id,
            ) from error
