"""`ps.jobs`: have work done, and see what became of it. Never runs a job: see `Worker`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from penstock.client import jobs_dead, jobs_rerun
from penstock.client.jobs_bulk import enqueue_many
from penstock.client.jobs_dead import Settled
from penstock.client.session import Session, state_of
from penstock.client.worker.by_function import name_of
from penstock.client.worker.results import fetched
from penstock.contracts.answers import HistoryEntry, Question
from penstock.contracts.errors import (
    Archived,
    Duplicate,
    Erased,
    JobFailed,
    NotFound,
    Timeout,
)
from penstock.contracts.gates import Why, WhyJob
from penstock.contracts.job_reads import (
    AskEstimate,
    AskMetrics,
    AskStats,
    Comparison,
    DeadCount,
    Estimate,
    HandlerSeen,
    ListDead,
    ListJobs,
    Metrics,
    QueueDepth,
    Stats,
    WorkerSeen,
)
from penstock.contracts.job_state import JobState, State
from penstock.contracts.jobs import (
    SERVICE,
    Backoff,
    CancelJob,
    DiscardJob,
    EnqueueJob,
    FailureCause,
    IfUnhandled,
    Limit,
    Origin,
    Rate,
    RedriveJob,
    Rules,
)
from penstock.contracts.jobs_bulk import DiscardJobs, Enqueued, JobSpec, RedriveJobs
from penstock.infra.objects import Objects


class Jobs:
    """Jobs, by an id that is given or made."""

    def __init__(self, session: Session) -> None:
        self._session = session

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

    async def get_status(self, id: str) -> State:
        """One word for how it stands, such as `processing`. Raises NotFound."""
        return (await self.get(id)).state

    async def get(self, id: str, *, at: str | int | None = None) -> JobState:
        """The job now, or as it was `at` a sequence or time. Raises NotFound."""
        return await self._session.get(SERVICE, id, JobState, at=at)

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
            return await self._kept(job)
        raise _failure(job)

    async def _kept(self, job: JobState) -> Any:
        if job.stored is None:
            return job.result
        try:
            return await fetched(Objects(self._session.bus), job.stored)
        except NotFound as error:
            raise NotFound(
                f"The result of the job {job.id!r} was kept for as long as PENSTOCK_RESULT_AGE and "
                "PENSTOCK_RESULT_COUNT say, and is gone.",
                id=job.id,
            ) from error

    async def watch(self, id: str) -> AsyncIterator[JobState]:
        """The present state and each newer one, to the end of the job.

        Waits for a job that is not there yet, and through restarts of the service.
        """
        async for job in self._session.watch(SERVICE, id, JobState):
            yield job
            if job.is_over:
                return

    async def history(self, id: str) -> list[HistoryEntry]:
        """Every event: what, who, why, when. Raises NotFound."""
        return await self._session.history(SERVICE, id)

    async def why(self, id: str) -> Why:
        """Why the job does not start: what it waits for, each in a sentence. Raises NotFound."""
        found, _ = await self._session.ask(SERVICE, "why", WhyJob(id=id), Why)
        return found

    async def queues(self) -> list[QueueDepth]:
        """How many jobs wait, are delayed and are processed, by queue and priority."""
        found, _ = await self._session.ask(SERVICE, "queues", Question(), list[QueueDepth])
        return found

    async def metrics(self, queue: str | None = None, *, minutes: int = 15) -> list[Metrics]:
        """How queues do, and the names in each: depth, oldest, rates, and latencies of the last
        `minutes`.
        """
        question = AskMetrics(queue=queue, minutes=minutes)
        found, _ = await self._session.ask(SERVICE, "metrics", question, list[Metrics])
        return found

    async def stats(
        self,
        *,
        at: datetime | int | str | None = None,
        queue: str | None = None,
        name: str | None = None,
    ) -> Stats:
        """How many jobs were in each state `at` a time or sequence, exact to the second; or are."""
        told = at.isoformat() if isinstance(at, datetime) else None if at is None else str(at)
        question = AskStats(at=told, queue=queue, name=name)
        found, _ = await self._session.ask(SERVICE, "stats", question, Stats)
        return found

    def dead(
        self,
        *,
        error: str | None = None,
        name: str | None = None,
        queue: str | None = None,
        cause: FailureCause | None = None,
    ) -> AsyncIterator[JobState]:
        """Every job that failed and was not discarded, newest first; `error` is the class."""
        question = ListDead(error=error, name=name, queue=queue, cause=cause)
        return jobs_dead.dead(self._session, question)

    async def dead_counts(
        self,
        *,
        error: str | None = None,
        name: str | None = None,
        queue: str | None = None,
        cause: FailureCause | None = None,
    ) -> list[DeadCount]:
        """How many of these there are of each class of error, the most first."""
        question = ListDead(error=error, name=name, queue=queue, cause=cause)
        found, _ = await self._session.ask(SERVICE, "dead-counts", question, list[DeadCount])
        return found

    async def redrive(
        self, id: str, reason: str | None = None, *, command_id: str | None = None
    ) -> JobState:
        """Run a failed or cancelled job again, with new budgets of attempts and crashes.

        Raises NotFound, or Refused for one that is completed or of a workflow.
        """
        command = RedriveJob(reason=reason)
        return state_of(
            await self._session.command(command, id=id, command_id=command_id), JobState
        )

    async def discard(
        self, id: str, reason: str | None = None, *, command_id: str | None = None
    ) -> JobState:
        """Take a failed job off the dead ones; it stays failed. Raises NotFound, Refused."""
        command = DiscardJob(reason=reason)
        return state_of(
            await self._session.command(command, id=id, command_id=command_id), JobState
        )

    async def redrive_all(
        self,
        *,
        error: str | None = None,
        name: str | None = None,
        queue: str | None = None,
        cause: FailureCause | None = None,
        reason: str | None = None,
        told: Callable[[int], object] = lambda _: None,
    ) -> Settled:
        """Redrive every dead job that fits, however many. `told` hears now and then how many were.

        Interrupted, call it again: what is redriven is no longer dead. Raises Unavailable, Timeout.
        """
        question = ListDead(error=error, name=name, queue=queue, cause=cause)
        return await jobs_dead.settle_all(self._session, question, RedriveJobs, reason, told)

    async def discard_all(
        self,
        *,
        error: str | None = None,
        name: str | None = None,
        queue: str | None = None,
        cause: FailureCause | None = None,
        reason: str | None = None,
        told: Callable[[int], object] = lambda _: None,
    ) -> Settled:
        """Discard every dead job that fits, in the same way."""
        question = ListDead(error=error, name=name, queue=queue, cause=cause)
        return await jobs_dead.settle_all(self._session, question, DiscardJobs, reason, told)

    async def rerun(self, id: str, *, command_id: str | None = None) -> JobState:
        """Enqueue a new job with the input that another one had, also one in the archive.

        Its id is made from the `command_id`, if that is given. Raises NotFound.
        """
        return await jobs_rerun.rerun(self._session, id, command_id or uuid.uuid4().hex)

    async def compare(self, one: str, other: str) -> Comparison:
        """Two jobs beside each other: outcomes, errors, durations, and where results differ."""
        jobs = [await jobs_rerun.ever(self._session, id) for id in (one, other)]
        results = [await self._kept(job) for job in jobs]
        return jobs_rerun.compared(*jobs, *results)

    async def workers(self) -> list[WorkerSeen]:
        """The workers that gave a sign of life within the last minutes."""
        found, _ = await self._session.ask(SERVICE, "workers", Question(), list[WorkerSeen])
        return found

    async def handlers(self) -> list[HandlerSeen]:
        """The names of jobs that workers know, and those that wait though none does."""
        found, _ = await self._session.ask(SERVICE, "handlers", Question(), list[HandlerSeen])
        return found

    async def estimate(self, id: str) -> Estimate:
        """When a job is expected to start and to end, by how long others of its name took.

        Without such a history it says so. Raises NotFound.
        """
        found, _ = await self._session.ask(SERVICE, "estimate", AskEstimate(id=id), Estimate)
        return found

    async def list(
        self,
        *,
        state: State | None = None,
        queue: str | None = None,
        name: str | None = None,
        tag: str | None = None,
        workflow: str | None = None,
        schedule: str | None = None,
        parent: str | None = None,
        rerun_of: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> list[JobState]:
        """Jobs, newest first; `before` is the last one's id, to page on.

        `since` and `until` bound when they were enqueued. Raises NotFound for a `before` that is
        gone.
        """
        question = ListJobs(
            state=state,
            queue=queue,
            name=name,
            tag=tag,
            workflow=workflow,
            schedule=schedule,
            parent=parent,
            rerun_of=rerun_of,
            since=since,
            until=until,
            limit=limit,
            before=before,
        )
        found, _ = await self._session.ask(SERVICE, "list", question, list[JobState])
        return found

    async def _ended(self, id: str) -> JobState:
        async for job in self._session.watch(SERVICE, id, JobState):
            if job.is_over:
                return job
        raise AssertionError("a watch has no end of its own")


def _seconds(time: float | timedelta | None) -> float | None:
    return time.total_seconds() if isinstance(time, timedelta) else time


def _failure(job: JobState) -> JobFailed:
    if job.state == "cancelled":
        why = f"was cancelled: {job.reason}" if job.reason else "was cancelled"
    else:
        error = f"{job.error.type}: {job.error.message}" if job.error else "no reason was kept"
        attempts = "1 attempt" if job.attempt == 1 else f"{job.attempt} attempts"
        why = f"failed after {attempts}: {error}"
    return JobFailed(
        f"The job {job.id!r} ({job.name}) {why.rstrip('.')}.",
        id=job.id,
        state=job.state,
        error=job.error.type if job.error else None,
        message=job.error.message if job.error else job.reason,
    )
