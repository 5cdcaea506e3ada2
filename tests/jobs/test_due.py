"""Delayed jobs over a real server: at their time, and not at all if they moved on."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

from penstock.client import Backoff, JobContext, JobSpec, Penstock
from penstock.contracts.dead import Letters
from penstock.infra.dead_letters.office import DeadLetterOffice
from penstock.infra.host import Host
from penstock.infra.testing import running_system
from penstock.jobs.service import build
from support.workers import NewWorker, Serve, event_names, nothing_left, stored

SOON = Backoff(initial=0.2, maximum=0.2)


async def test_a_delayed_job_waits_for_its_time(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()

    @worker.register_handler("when")
    async def when() -> float:
        return datetime.now(UTC).timestamp()

    await serve(worker)
    job = await ps.jobs.enqueue("when", delay=timedelta(seconds=1))
    assert (job.state, await stored(ps, "work")) == ("pending", 0)
    assert job.run_at is not None
    [depth] = await ps.jobs.queues()
    assert (depth.waiting, depth.delayed) == (0, 1)
    ran = await ps.jobs.result(job.id, timeout=60)
    assert 0 <= ran - job.run_at.timestamp() < 2
    await nothing_left(ps)


async def test_thousands_that_are_due_at_one_moment_are_offered_each_once(ps: Penstock) -> None:
    at = datetime.now(UTC) + timedelta(seconds=2)
    jobs = [JobSpec(id=f"j{n}", name="x", run_at=at) for n in range(2000)]
    async for enqueued in ps.jobs.enqueue_many(jobs):
        assert enqueued.problem is None
    await asyncio.gather(*(ps.jobs.cancel(f"j{n}") for n in range(0, 2000, 100)))
    assert await stored(ps, "work") == 0 or datetime.now(UTC) >= at  # it may have taken that long
    async with asyncio.timeout(60):
        while await stored(ps, "sched") or await stored(ps, "work") > 1980:
            await asyncio.sleep(0.02)
    assert await stored(ps, "work") == 1980


async def test_jobs_that_failed_together_are_tried_again_together(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()

    @worker.register_handler("flaky")
    async def flaky(ctx: JobContext) -> int:
        if ctx.attempt == 1:
            raise ValueError("not yet")
        return ctx.attempt

    jobs = [JobSpec(id=f"j{n}", name="flaky", backoff=SOON) for n in range(300)]
    enqueued = [job.id async for job in ps.jobs.enqueue_many(jobs)]
    await serve(worker)
    results = [await ps.jobs.result(id, timeout=60) for id in enqueued]
    assert results == [2] * 300
    assert await event_names(ps, "j7") == ["queued", "started", "retrying", "started", "completed"]


async def test_a_timer_that_comes_too_late_does_nothing(ps: Penstock, system: Host) -> None:
    job = await ps.jobs.enqueue("never", delay=3600)
    bus, subjects = ps.session.bus, ps.session.bus.subjects
    stream, subject = subjects.stream("sched"), subjects.timer("jobs", job.id)
    [timer] = await bus.direct_get(stream, {"last_by_subj": subject})
    await ps.jobs.cancel(job.id)
    await bus.publish_acked(subjects.due("jobs", job.id), timer.data)
    await nothing_left(ps)
    assert await event_names(ps, job.id) == ["queued", "cancelled"]


async def test_a_timer_that_was_due_while_the_service_was_down_is_not_lost(
    nats_url: str, prefix: str, tmp_path: Path, new_worker: NewWorker
) -> None:
    async with Penstock(nats_url, prefix=prefix) as ps:
        async with running_system(nats_url, prefix, tmp_path / "1", {"jobs": build}):
            job = await ps.jobs.enqueue("step", delay=0.4)
        stream, due = ps.session.bus.subjects.stream("sched"), ps.session.bus.subjects.dues("jobs")
        async with asyncio.timeout(60):
            while not await ps.session.bus.direct_get(stream, {"last_by_subj": due}):
                await asyncio.sleep(0.02)
        worker = new_worker()

        @worker.register_handler("step")
        async def step() -> str:
            return "done"

        async with running_system(nats_url, prefix, tmp_path / "2", {"jobs": build}), worker:
            assert await ps.jobs.result(job.id, timeout=60) == "done"
            await nothing_left(ps)


async def test_a_timer_that_cannot_be_read_is_a_dead_letter_and_comes_no_more(
    ps: Penstock, system: Host
) -> None:
    bus = ps.session.bus
    await bus.publish_acked(bus.subjects.due("jobs", "some.job"), b"{}")
    await nothing_left(ps)
    [found] = [one async for one in DeadLetterOffice(bus).newest_first(Letters(kind="timer"))]
    assert (found.letter.service, found.letter.id) == ("jobs", "some.job")
    assert (found.letter.body, found.letter.deliveries) == ("{}", 1)
