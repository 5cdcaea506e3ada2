"""Work items in line with the log: withdrawn, repeated, published again, in their order."""

from __future__ import annotations

import asyncio

import pytest

from penstock.client import Penstock
from penstock.contracts.errors import JobFailed, NotFound
from support.workers import NewWorker, Serve, nothing_left, stored


async def test_higher_priorities_go_first_and_the_lowest_still_moves(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker, order = new_worker(concurrency=1), list[int]()

    @worker.register_handler("note")
    async def note(priority: int) -> None:
        order.append(priority)

    for priority in [0] * 4 + [5] * 10 + [9] * 20:
        last = await ps.jobs.enqueue("note", {"priority": priority}, priority=priority)
    await serve(worker)
    async with asyncio.timeout(60):
        while len(order) < 34:
            await asyncio.sleep(0.02)
    first_twenty = order[:20]
    assert order[:7] == [9] * 7
    assert first_twenty.count(9) >= 17
    assert first_twenty.count(5) == first_twenty.count(0) == 1
    await ps.jobs.result(last.id, timeout=60)


async def test_a_job_that_waits_is_cancelled_with_its_item_and_its_timer(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    waiting = await ps.jobs.enqueue("never")
    delayed = await ps.jobs.enqueue("never", delay=1)
    assert (await stored(ps, "work"), await stored(ps, "sched")) == (1, 1)
    for job in (waiting, delayed):
        cancelled = await ps.jobs.cancel(job.id, "enough")
        assert (cancelled.state, cancelled.reason) == ("cancelled", "enough")
        with pytest.raises(JobFailed, match="was cancelled: enough"):
            await ps.jobs.result(job.id, timeout=60)
    assert (await stored(ps, "work"), await stored(ps, "sched")) == (0, 0)
    with pytest.raises(NotFound):
        await ps.jobs.cancel("nobody's")


async def test_an_item_that_was_not_published_or_was_published_twice_does_no_harm(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    """What a service that died between event and item left, and what its successor repeats."""
    worker, calls = new_worker(), list[int]()

    @worker.register_handler("once")
    async def once() -> int:
        calls.append(1)
        await asyncio.sleep(0.2)
        return len(calls)

    job = await ps.jobs.enqueue("once", command_id="c-1")
    bus, subjects = ps.session.bus, ps.session.bus.subjects
    stream, subject = subjects.stream("work"), subjects.work("default", 5, job.id)
    [item] = await bus.direct_get(stream, {"last_by_subj": subject})
    await bus.publish_acked(subject, item.data)
    await serve(worker)
    assert await ps.jobs.result(job.id, timeout=60) == 1
    await nothing_left(ps)
    assert calls == [1]
    await bus.publish_acked(subject, item.data)
    await nothing_left(ps)
    assert calls == [1]


async def test_a_repeated_command_publishes_the_item_that_is_missing(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    job = await ps.jobs.enqueue("late", id="j", command_id="c-1")
    bus = ps.session.bus
    work = bus.subjects.stream("work")
    # Another window, so that the server does not take the repetition for the one it has seen.
    config = (await bus.api(f"STREAM.INFO.{work}"))["config"]
    await bus.api(f"STREAM.UPDATE.{work}", {**config, "duplicate_window": 100_000_000})
    await bus.api(f"STREAM.PURGE.{work}")
    await asyncio.sleep(0.2)
    assert await ps.jobs.enqueue("late", id="j", command_id="c-1") == job
    assert await stored(ps, "work") == 1


async def test_a_queue_may_have_any_name(ps: Penstock, new_worker: NewWorker, serve: Serve) -> None:
    worker = new_worker(queues=["a.b c/d>*"])

    @worker.register_handler("here")
    async def here() -> str:
        return "here"

    await serve(worker)
    job = await ps.jobs.enqueue("here", queue="a.b c/d>*")
    assert await ps.jobs.result(job.id, timeout=60) == "here"
