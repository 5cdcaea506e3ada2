"""What `ps.jobs` tells of jobs, queues and workers. Never changes any of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from penstock.client.session import Session
from penstock.contracts.answers import HistoryEntry, Question
from penstock.contracts.gates import Why, WhyJob
from penstock.contracts.job_reads import (
    AskEstimate,
    AskMetrics,
    AskStats,
    Estimate,
    HandlerSeen,
    ListJobs,
    Metrics,
    QueueDepth,
    Stats,
    WorkerSeen,
)
from penstock.contracts.job_state import JobState, State
from penstock.contracts.jobs import SERVICE


class JobReads:
    """The reads of `ps.jobs`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get_status(self, id: str) -> State:
        """One word for how it stands, such as `processing`. Raises NotFound."""
        return (await self.get(id)).state

    async def get(self, id: str, *, at: str | int | None = None) -> JobState:
        """The job now, or as it was `at` a sequence or time. Raises NotFound."""
        return await self._session.get(SERVICE, id, JobState, at=at)

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
        """How many jobs were in each state `at` a sequence, or a time to the second; or are."""
        told = at.isoformat() if isinstance(at, datetime) else None if at is None else str(at)
        question = AskStats(at=told, queue=queue, name=name)
        found, _ = await self._session.ask(SERVICE, "stats", question, Stats)
        return found

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
