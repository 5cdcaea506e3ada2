"""Whatever step a worker or the service dies behind, the next one goes on from there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from penstock.client import Penstock, Worker
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import JobCompleted, JobError, JobReleased, JobRetrying, JobStarted
from penstock.infra.event_log import JetStreamEventLog
from support.proxy import Proxy
from support.workers import NewWorker, Serve, event_names, left, nothing_left, work_item

Start = Callable[[], Awaitable[object]]
BOOM = JobError(type="ValueError", message="boom")


async def over(ps: Penstock, job: JobState) -> JobState:
    """The job at its end, when also its item and its timer are gone."""
    async with asyncio.timeout(60):
        [*_, last] = [state async for state in ps.jobs.watch(job.id)]
    await nothing_left(ps)
    return last


@pytest.fixture
async def job(ps: Penstock) -> JobState:
    """A job that waits for a worker."""
    return await ps.jobs.enqueue("step")


@pytest.fixture
def start(new_worker: NewWorker, serve: Serve) -> Start:
    """Starts a worker that can do the job."""
    worker = new_worker()

    @worker.register_handler("step")
    async def step() -> str:
        return "done"

    return partial(serve, worker)


async def test_behind_the_start_the_attempt_is_lost(
    ps: Penstock, job: JobState, start: Start
) -> None:
    item = await work_item(ps, job)
    await left(ps, job, JobStarted(attempt=1, worker="dead", item=item))
    await start()
    state = await over(ps, job)
    assert (state.result, state.attempt, state.errors[0].type) == ("done", 1, "WorkerLost")


async def test_behind_the_failure_the_timer_is_set(
    ps: Penstock, job: JobState, start: Start
) -> None:
    item = await work_item(ps, job)
    run_at = datetime.now(UTC) + timedelta(seconds=0.3)
    await left(
        ps,
        job,
        JobStarted(attempt=1, worker="dead", item=item),
        JobRetrying(attempt=1, error=BOOM, run_at=run_at),
    )
    await start()
    state = await over(ps, job)
    assert (state.result, state.attempt, state.errors) == ("done", 2, (BOOM,))
    assert state.started
    assert state.started >= run_at


async def test_behind_the_release_the_attempt_begins_again(
    ps: Penstock, job: JobState, start: Start
) -> None:
    item = await work_item(ps, job)
    await left(
        ps,
        job,
        JobStarted(attempt=1, worker="dead", item=item),
        JobReleased(attempt=1, worker="dead", item=item, reason="the worker shuts down"),
    )
    await start()
    state = await over(ps, job)
    assert (state.result, state.attempt, state.errors) == ("done", 1, ())


async def test_behind_the_end_only_the_item_is_removed(
    ps: Penstock, job: JobState, start: Start
) -> None:
    item = await work_item(ps, job)
    await left(
        ps,
        job,
        JobStarted(attempt=1, worker="dead", item=item),
        JobCompleted(attempt=1, result="done before"),
    )
    await start()
    assert (await over(ps, job)).result == "done before"
    assert await event_names(ps, job.id) == ["queued", "started", "completed"]


async def test_a_job_held_under_another_item_is_not_taken_over(
    ps: Penstock, job: JobState, start: Start
) -> None:
    item = await work_item(ps, job)
    await left(ps, job, JobStarted(attempt=1, worker="alive", item=item + 1))
    await start()
    await nothing_left(ps)
    assert await event_names(ps, job.id) == ["queued", "started"]


async def test_no_delivery_writes_under_the_name_of_another_of_the_same_count(
    ps: Penstock, job: JobState, new_worker: NewWorker, serve: Serve
) -> None:
    """A killed server counts deliveries anew, and a worker's name may come again."""
    item = await work_item(ps, job)
    worker = new_worker(name="twin")

    @worker.register_handler("step")
    async def step() -> str:
        return "done"

    first = f"{job.id}:twin:{item}.1"
    await left(ps, job, JobStarted(attempt=1, worker="twin", item=item), delivery=first)
    await serve(worker)
    assert (await over(ps, job)).result == "done"
    events = (await JetStreamEventLog(ps.session.bus, "jobs").load(job.id)).events
    assert [r.event.id for r in events if r.event.id.startswith(f"{first}:")] == [f"{first}:2"]


async def test_a_start_whose_receipt_is_lost_costs_no_crash(
    ps: Penstock, job: JobState, nats_url: str
) -> None:
    async with Proxy(nats_url) as proxy:
        worker = Worker(proxy.url, prefix=ps.session.bus.subjects.prefix, durability="os")

        @worker.register_handler("step")
        async def step() -> str:
            return "done"

        stream = ps.session.bus.subjects.event_stream("jobs")
        proxy.lose, proxy.cut_then = f'"stream":"{stream}"'.encode(), True
        async with worker:
            assert (await over(ps, job)).crashes == 0
        assert proxy.lost.is_set()
    assert await event_names(ps, job.id) == ["queued", "started", "completed"]
