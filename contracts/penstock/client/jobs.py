"""`ps.jobs`: have work done, and see what became of it. Never runs a job: see `Worker`.

What it only tells is in `job_reads`, what it does with dead jobs in `dead_jobs`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from penstock.client import jobs_rerun
from penstock.client.dead_jobs import DeadJobs
from penstock.client.job_outcomes import failure, kept
from penstock.client.job_reads import JobReads
from penstock.client.jobs_bulk import enqueue_many
from penstock.client.session import state_of
from penstock.client.worker.by_function import name_of
from penstock.contracts.errors import Archived, Duplicate, Erased, NotFound, Timeout
from penstock.contracts.job_reads import Comparison
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import (
    SERVICE,
    Backoff,
    CancelJob,
    EnqueueJob,
    IfUnhandled,
    Limit,
    Origin,
    Rate,
    Rules,
)
from penstock.contracts.jobs_bulk import Enqueued, JobSpec


class Jobs(JobReads, DeadJobs):
    """Jobs, by an id that is given or made."""

    async def enqueue(
        self,
        name: str | Callable[..., Any],
        payload: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        queue: str = "default",
        priority: int = 5,
        delay: float | timedelta = 0,
        at: datetime | None = None,
        max_attempts: int = 3,
        max_crashes: int = 3,
        backoff: Backoff | None = None,
        timeout: float | timedelta | None = None,
        total_timeout: float | timedelta | None = None,
        unique_key: str | None = None,
        unique_for: float | timedelta | None = None,
        on_duplicate: Literal["return", "raise"] = "return",
        tenant: str | None = None,
        limit: str | None = None,
        at_most: int = 1,
        rate: Rate | None = None,
        tags: Sequence[str] = (),
        if_unhandled: IfUnhandled = "wait",
        origin: Origin | None = None,
        command_id: str | None = None,
    ) -> JobState:
        """Have the handler `name` run by a worker of `queue`, with `payload` as its arguments.

        A handler that is registered in this process may be given in place of its name: then the
        payload is checked against its annotations before anything is sent. `priority` 9 goes first,
        0 last; `delay` in seconds, or `at` a moment. `timeout` is for an attempt and
        `total_timeout` for the job from now on, in seconds. With `max_crashes` 3 the third worker
        that dies over it quarantines it: it is failed, and run no more. While no worker knows the
        name it waits, or fails after a while with `if_unhandled="fail"`. The same `id`, name and
        payload again give the job that there is; so does the same `command_id` when no id is given.
        Of jobs with the same `unique_key` there is one, until it is over, or for `unique_for`
        seconds: while there is, its state is returned, or Duplicate raised.
        Of jobs with the same `limit` key `at_most` are processed at a time, over all workers; of
        those with the key of a `rate` so many begin within its seconds. Each `tenant` of a queue
        gets its turns, whatever the others enqueue: see `ps.queues.set_weight`.
        Raises Refused if `id` is another job's, or the queue is drained, TooLarge for a payload
        above 512 KB, InvalidMessage with the path of a field that no worker takes.
        """
        payload = dict(payload or {})
        command = EnqueueJob(
            name=name_of(name, payload),
            payload=payload,
            queue=queue,
            priority=priority,
            delay=_seconds(delay) or 0.0,
            run_at=at,
            rules=Rules(
                timeout=_seconds(timeout),
                total_timeout=_seconds(total_timeout),
                max_crashes=max_crashes,
                unique_key=unique_key,
                unique_for=_seconds(unique_for),
                tenant=tenant,
                limit=Limit(key=limit, at_most=at_most) if limit is not None else None,
                rate=rate,
                if_unhandled=if_unhandled,
            ),
            origin=origin,
            max_attempts=max_attempts,
            backoff=backoff or Backoff(),
            tags=tuple(tags),
        )
        id = id or command_id or uuid.uuid4().hex
        try:
            outcome = await self._session.command(command, id=id, command_id=command_id)
        except Duplicate as duplicate:
            if on_duplicate == "raise":
                raise
            return await self._other(duplicate)
        return state_of(outcome, JobState)

    async def _other(self, duplicate: Duplicate) -> JobState:
        """The job that has the unique key."""
        self._session.wrote(SERVICE, duplicate.fields["sequence"])
        try:
            return await self.get(duplicate.fields["id"])
        except (NotFound, Archived, Erased):
            raise duplicate from None

    def enqueue_many(
        self,
        jobs: Iterable[JobSpec] | AsyncIterable[JobSpec],
        *,
        chunk: int = 250,
        in_flight: int = 8,
        command_id: str | None = None,
    ) -> AsyncIterator[Enqueued]:
        """Enqueue any number of jobs, and tell of each in order what became of it.

        Goes on only as the outcomes are taken: `async for job in ps.jobs.enqueue_many(...)`. They
        are sent in commands of up to `chunk` jobs (500 at most), `in_flight` commands at a time. A
        job that cannot be is told with its `problem` and keeps back no other. The same jobs again
        with the same `command_id` and `chunk` have no second effect. Raises Unavailable or Timeout.
        """
        return enqueue_many(
            self._session, jobs, chunk=chunk, in_flight=in_flight, command_id=command_id
        )

    async def cancel(
        self, id: str, reason: str | None = None, *, command_id: str | None = None
    ) -> JobState:
        """Cancel a job that waits or runs; a running handler is told at once to stop.

        Raises NotFound, or Refused once it is completed or failed.
        """
        outcome = await self._session.command(
            CancelJob(reason=reason), id=id, command_id=command_id
        )
        return state_of(outcome, JobState)

    async def result(self, id: str, *, timeout: float = 60) -> Any:
        """What the handler returned, once it has; `timeout` in seconds.

        Raises JobFailed for a job that failed or was cancelled, Timeout if it goes on for longer.
        """
        try:
            async with asyncio.timeout(timeout):
                job = await self._ended(id)
        except TimeoutError:
            raise Timeout(
                f"The job {id!r} did not end within {timeout} s; it may still do so.", id=id
            ) from None
        if job.state == "completed":
            return await kept(self._session, job)
        raise failure(job)

    async def rerun(self, id: str, *, command_id: str | None = None) -> JobState:
        """Enqueue a new job with the input that another one had, also one in the archive.

        Its id is made from the `command_id`, if that is given. Raises NotFound.
        """
        return await jobs_rerun.rerun(self._session, id, command_id or uuid.uuid4().hex)

    async def compare(self, one: str, other: str) -> Comparison:
        """Two jobs beside each other: outcomes, errors, durations, and where results differ."""
        jobs = [await jobs_rerun.ever(self._session, id) for id in (one, other)]
        results = [await kept(self._session, job) for job in jobs]
        return jobs_rerun.compared(*jobs, *results)

    async def _ended(self, id: str) -> JobState:
        async for job in self._session.watch(SERVICE, id, JobState):
            if job.is_over:
                return job
        raise AssertionError("a watch has no end of its own")


def _seconds(time: float | timedelta | None) -> float | None:
    return time.total_seconds() if isinstance(time, timedelta) else time
