"""What a handler tells of its job: log, progress, checkpoints and children."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.client import JobContext, Penstock
from penstock.contracts.errors import NotFound
from penstock.contracts.lifecycle import ERASE
from penstock.contracts.workers import WorkerSign
from penstock.infra.event_log import JetStreamEventLog
from penstock.infra.host import Build, Host
from penstock.infra.objects import Objects
from penstock.infra.testing import running_system
from penstock.jobs.results import Results
from penstock.jobs.service import build as jobs
from penstock.progress.service import build as progress
from support.workers import NewWorker, Serve, event_names


@pytest.fixture
async def system(nats_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Host]:
    """Jobs, and the progress that they tell."""
    builders: dict[str, Build] = {"jobs": jobs, "progress": progress}
    async with running_system(nats_url, prefix, tmp_path, builders) as host:
        yield host


async def told(ps: Penstock, id: str) -> Any:
    """The progress of a job once it is over."""
    async with asyncio.timeout(60):
        [*_, last] = [state async for state in ps.progress.watch(id)]
    return last


async def test_a_jobs_progress_begins_with_its_first_report_and_ends_with_the_job(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()

    @worker.register_handler("report", stages=["load", "save"])
    async def report(ctx: JobContext, how: str) -> None:
        ctx.progress(10, stage="load")
        await asyncio.sleep(0)
        ctx.progress(60, stage="save", message="nearly")
        if how == "fail":
            raise ValueError("boom")

    await serve(worker)
    done = await told(ps, (await ps.jobs.enqueue("report", {"how": "end"})).id)
    assert (done.state, done.percent, done.message) == ("completed", 100.0, "nearly")
    failed = await told(ps, (await ps.jobs.enqueue("report", {"how": "fail"}, max_attempts=1)).id)
    assert (failed.state, failed.error, failed.percent) == ("failed", "ValueError: boom", 60.0)


async def test_the_progress_of_an_earlier_attempt_ends_with_the_job_too(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()

    @worker.handler
    def once(ctx: JobContext) -> str:
        if ctx.attempt == 1:
            ctx.progress(30)
            raise ValueError("again")
        return "done"

    await serve(worker)
    job = await ps.jobs.enqueue("once")
    assert await ps.jobs.result(job.id, timeout=60) == "done"
    assert (await ps.jobs.get(job.id)).progress
    assert (await told(ps, job.id)).state == "completed"


async def test_the_progress_of_a_cancelled_job_is_cancelled(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()

    @worker.handler
    async def long(ctx: JobContext) -> None:
        ctx.progress(5)
        await asyncio.sleep(60)

    await serve(worker)
    job = await ps.jobs.enqueue("long")
    async with asyncio.timeout(60):
        async for state in ps.progress.watch(job.id):
            if state.percent:
                break
    await ps.jobs.cancel(job.id)
    assert (await told(ps, job.id)).state == "cancelled"


async def test_log_lines_are_heard_at_once_and_kept_together(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker, heard = new_worker(), []

    @worker.handler
    def talk(ctx: JobContext) -> None:
        for number in range(150):
            ctx.log(f"line {number}")

    bus = ps.session.bus

    async def hear(msg: Any) -> None:
        heard.append(msgspec.json.decode(msg.data)["message"])

    await bus.nc.subscribe(bus.subjects.live("jobs", "talkative"), cb=hear)
    await bus.nc.flush()
    await serve(worker)
    await ps.jobs.enqueue("talk", id="talkative")
    await ps.jobs.result("talkative", timeout=60)
    assert await event_names(ps, "talkative") == ["queued", "started", "logged", "completed"]
    [kept] = [one.data for one in await ps.jobs.history("talkative") if "logged" in one.type]
    data = msgspec.json.decode(msgspec.json.encode(kept))
    assert (len(data["lines"]), data["dropped"]) == (100, 50)
    assert heard[0] == "line 0"


async def test_a_later_attempt_is_given_what_an_earlier_one_saved(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()

    @worker.handler
    def step(ctx: JobContext) -> Any:
        if ctx.attempt == 1:
            ctx.run(ctx.save_checkpoint({"at": 1}))
            ctx.run(ctx.save_checkpoint({"at": 2}))
            raise ValueError("later")
        return ctx.checkpoint

    await serve(worker)
    job = await ps.jobs.enqueue("step")
    assert await ps.jobs.result(job.id, timeout=60) == {"at": 2}


async def test_a_checkpoint_that_is_cut_off_by_a_timeout_is_not_taken_for_the_end(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()

    @worker.register_handler("greedy", timeout=0.2)
    async def greedy(ctx: JobContext) -> None:
        number = 0
        while True:
            number += 1
            await ctx.save_checkpoint(number)

    await serve(worker)
    jobs = [await ps.jobs.enqueue("greedy", max_attempts=1) for _ in range(5)]
    for job in jobs:
        async with asyncio.timeout(60):
            [*_, last] = [state async for state in ps.jobs.watch(job.id)]
        assert (last.state, last.error and last.error.type) == ("failed", "TimedOut")


async def test_a_retried_attempt_does_not_enqueue_its_children_again(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()

    @worker.handler
    async def parent(ctx: JobContext) -> list[str]:
        children = [await ctx.enqueue("child", {"n": n}) for n in range(2)]
        if ctx.attempt == 1:
            raise ValueError("again")
        return [child.id for child in children]

    await serve(worker)
    job = await ps.jobs.enqueue("parent")
    ids = await ps.jobs.result(job.id, timeout=60)
    found = await ps.jobs.list(name="child")
    assert sorted(ids) == sorted(child.id for child in found)
    assert {child.origin and child.origin.parent for child in found} == {job.id}


async def test_erasing_a_job_removes_its_large_result(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()

    @worker.handler
    async def give() -> str:
        return "x" * 100_000

    await serve(worker)
    job = await ps.jobs.enqueue("give")
    await ps.jobs.result(job.id, timeout=60)
    stored = (await ps.jobs.get(job.id)).stored
    assert stored
    objects = Objects(ps.session.bus)
    assert len(await objects.get(stored)) == 100_002
    await erased(ps, job.id)
    with pytest.raises(NotFound):
        await objects.info(stored)


async def test_of_each_name_the_newest_results_are_kept(
    ps: Penstock, system: Host, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()

    @worker.handler
    async def give() -> str:
        return "x" * 100_000

    @worker.handler
    async def other() -> str:
        return "y" * 100_000

    await serve(worker)
    given = [(await ps.jobs.enqueue("give")).id for _ in range(3)]
    for id in given:
        await ps.jobs.result(id, timeout=60)
    lone = (await ps.jobs.enqueue("other")).id
    await ps.jobs.result(lone, timeout=60)
    bus = ps.session.bus
    log = JetStreamEventLog(bus, "jobs")
    await Results(Objects(bus), log, age=1.0, count=1).look()
    kept = [id for id in [*given, lone] if await has_result(ps, id)]
    assert len(kept) == 2
    assert lone in kept
    await Results(Objects(bus), log, age=1e-9, count=0).look()
    assert not any([await has_result(ps, id) for id in kept])
    assert (await ps.jobs.get(lone)).state == "completed"


async def has_result(ps: Penstock, id: str) -> bool:
    try:
        await ps.jobs.result(id)
    except NotFound as error:
        assert "PENSTOCK_RESULT_AGE" in str(error)
        return False
    return True


async def erased(ps: Penstock, id: str) -> None:
    await ps.session.command(ERASE["jobs"](reason="asked for"), id=id)


async def test_a_worker_tells_what_it_is_and_what_it_runs(
    ps: Penstock, new_worker: NewWorker
) -> None:
    signs: list[WorkerSign] = []
    bus = ps.session.bus

    async def hear(msg: Any) -> None:
        signs.append(msgspec.json.decode(msg.data, type=WorkerSign))

    await bus.nc.subscribe(bus.subjects.worker("*"), cb=hear)
    await bus.nc.flush()
    worker, go = new_worker(name="w", version="7", queues=["default", "b"]), asyncio.Event()

    @worker.handler
    async def hold(size: int) -> None:
        await go.wait()

    async with worker:
        job = await ps.jobs.enqueue("hold", {"size": 1})
        async with asyncio.timeout(60):
            while not any(sign.running for sign in signs):
                await asyncio.sleep(0.01)
        go.set()
        await ps.jobs.result(job.id, timeout=60)
    async with asyncio.timeout(60):
        while not signs[-1].stopped:
            await asyncio.sleep(0.01)
    first = signs[0]
    assert (first.name, first.version, first.queues) == ("w", "7", ("default", "b"))
    assert first.handlers[0].payload
    running = next(sign.running for sign in signs if sign.running)
    assert [(one.id, one.name, one.attempt) for one in running] == [(job.id, "hold", 1)]
