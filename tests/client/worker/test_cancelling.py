"""Cancelling what runs: how soon a handler learns of it, whatever its lease."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from penstock.client import JobContext, Penstock
from support.workers import NewWorker, Serve

SOON = 1.0  # seconds; on an idle machine it is a few milliseconds, here others may work as well


async def test_a_running_handler_is_cancelled_at_once_and_not_only_by_its_lease(
    ps: Penstock,
    new_worker: NewWorker,
    serve: Serve,
    record_property: Callable[[str, object], None],
) -> None:
    worker, running = new_worker(lease=60), asyncio.Event()
    cancelled: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    @worker.handler
    async def long() -> None:
        running.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set_result(time.perf_counter())
            raise

    await serve(worker)
    job = await ps.jobs.enqueue("long")
    await asyncio.wait_for(running.wait(), 60)
    await ps.jobs.cancel(job.id, "enough")
    returned = time.perf_counter()
    took = await asyncio.wait_for(cancelled, SOON) - returned
    record_property("seconds from the return of cancel", took)
    assert took < SOON
    assert (await ps.jobs.get(job.id)).state == "cancelled"


async def test_a_handler_in_a_thread_learns_that_it_was_cancelled_whatever_its_lease(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker, running = new_worker(lease=60), threading.Event()
    seen: list[str] = []
    ended = threading.Event()

    @worker.handler
    def long(ctx: JobContext) -> None:
        running.set()
        give_up = time.monotonic() + 15
        try:
            while time.monotonic() < give_up:
                ctx.heartbeat()
                time.sleep(0.01)
        except asyncio.CancelledError:
            seen.append(f"cancelled: {ctx.is_cancelled}")
        ended.set()

    await serve(worker)
    job = await ps.jobs.enqueue("long")
    assert await asyncio.to_thread(running.wait, 10)
    await ps.jobs.cancel(job.id)
    assert await asyncio.to_thread(ended.wait, 10)
    assert seen == ["cancelled: True"]
