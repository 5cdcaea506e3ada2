"""A worker over a real server: what it takes, what it leaves, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from pathlib import Path

import pytest

from penstock.client import JobContext, Penstock, Worker
from penstock.contracts.errors import Unavailable
from support.waiting import up_to_date
from support.workers import NewWorker, Serve


async def test_a_blocking_handler_does_not_hold_up_the_loop(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker(concurrency=3)
    together = threading.Barrier(3)

    @worker.register_handler("block")
    def block() -> int:
        """Return only if three of them run at the same time, and the loop runs beside them."""
        together.wait(10)
        assert asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "alive"), loop).result(5)
        return threading.get_ident()

    loop = asyncio.get_running_loop()
    await serve(worker)
    jobs = [await ps.jobs.enqueue("block") for _ in range(3)]
    threads = {await ps.jobs.result(job.id, timeout=60) for job in jobs}
    assert len(threads - {threading.get_ident()}) == 3


async def test_a_worker_has_no_more_in_hand_than_it_can_run(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    go, running = asyncio.Event(), {"a": 0, "b": 0}

    def start(name: str) -> Worker:
        worker = new_worker(concurrency=2, name=name)

        @worker.register_handler("hold")
        async def hold() -> str:
            running[name] += 1
            await go.wait()
            return name

        return worker

    jobs = [await ps.jobs.enqueue("hold", priority=n % 10) for n in range(12)]
    await serve(start("a"))
    await serve(start("b"))
    async with asyncio.timeout(60):
        while sum(running.values()) < 4:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)  # time to take too much
    assert running == {"a": 2, "b": 2}
    assert sum(depth.processing for depth in await ps.jobs.queues()) == 4
    go.set()
    for job in jobs:
        assert await ps.jobs.result(job.id, timeout=60) in running


async def test_a_job_without_a_handler_here_is_left_to_another_worker(
    ps: Penstock, new_worker: NewWorker, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    ignorant, knowing = new_worker(), new_worker()

    @knowing.register_handler("rare")
    async def rare() -> str:
        return "done"

    await serve(ignorant)
    with caplog.at_level(logging.WARNING):
        jobs = [await ps.jobs.enqueue("rare") for _ in range(5)]
        async with asyncio.timeout(60):
            while "rare" not in ignorant.refused:
                await asyncio.sleep(0.01)
    await serve(knowing)
    for job in jobs:
        assert await ps.jobs.result(job.id, timeout=60) == "done"
        assert (await ps.jobs.get(job.id)).attempt == 1
    assert sum("'rare' are left to other workers" in text for text in caplog.messages) == 1


async def test_an_outcome_that_comes_after_the_job_was_lost_is_refused(
    ps: Penstock, new_worker: NewWorker, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    worker = new_worker(lease=30)  # its next look is far off

    @worker.register_handler("suicidal")
    async def cancel_itself(ctx: JobContext) -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await ctx.ps.jobs.cancel(ctx.id)
            await asyncio.sleep(10)
        return "too late"

    caplog.set_level(logging.INFO)
    await serve(worker)
    job = await ps.jobs.enqueue("suicidal")
    async with asyncio.timeout(60):
        while not any("was cancelled, or its lease lost" in text for text in caplog.messages):
            await asyncio.sleep(0.01)
    state = await ps.jobs.get(job.id)
    assert (state.state, state.result) == ("cancelled", None)


async def test_a_blocking_handler_learns_that_it_should_stop(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker, stopped = new_worker(lease=1), threading.Event()

    @worker.register_handler("long")
    def long(ctx: JobContext) -> None:
        deadline = time.monotonic() + 20
        while not ctx.is_cancelled and time.monotonic() < deadline:
            time.sleep(0.01)
        if ctx.is_cancelled:
            stopped.set()

    await serve(worker)
    job = await ps.jobs.enqueue("long")
    async with asyncio.timeout(60):
        while await ps.jobs.get_status(job.id) != "processing":
            await asyncio.sleep(0.01)
    await ps.jobs.cancel(job.id)
    assert await asyncio.to_thread(stopped.wait, 5)


async def test_leaving_the_block_hands_back_what_runs(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    running, results = asyncio.Event(), []

    def start(seconds: float) -> Worker:
        worker = new_worker(grace=0.1)

        @worker.register_handler("nap")
        async def nap() -> str:
            running.set()
            await asyncio.sleep(seconds)
            return "rested"

        return worker

    async with start(60):
        job = await ps.jobs.enqueue("nap", max_attempts=1)
        await asyncio.wait_for(running.wait(), 60)
    await up_to_date(ps)
    results.append(await ps.jobs.get(job.id))
    await serve(start(0))
    assert await ps.jobs.result(job.id, timeout=60) == "rested"
    assert (results[0].state, results[0].attempt) == ("pending", 0)
    assert (await ps.jobs.get(job.id)).attempt == 1


async def test_a_handler_that_cancels_itself_has_failed(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()

    @worker.register_handler("odd")
    async def odd() -> None:
        raise asyncio.CancelledError

    await serve(worker)
    job = await ps.jobs.enqueue("odd", max_attempts=1)
    async with asyncio.timeout(60):
        [*_, last] = [state async for state in ps.jobs.watch(job.id)]
    assert last.error
    assert (last.state, last.error.type) == ("failed", "CancelledError")


async def test_serving_ends_when_it_is_cancelled(ps: Penstock, new_worker: NewWorker) -> None:
    worker = new_worker()

    @worker.register_handler("x")
    async def x() -> int:
        return 1

    serving = asyncio.create_task(worker.serve())
    job = await ps.jobs.enqueue("x")
    assert await ps.jobs.result(job.id, timeout=60) == 1
    assert worker.problem() is None
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(serving, 60)
    assert worker.problem() == "it is not running"


async def test_without_a_system_a_worker_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PENSTOCK_NATS_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Unavailable, match="penstock up"):
        await Worker().serve()


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"lease": 0.5}, {"queues": []}])
def test_a_worker_that_could_not_work_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Worker(**wrong)  # type: ignore[arg-type]
