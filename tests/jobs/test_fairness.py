"""A flood of one tenant, or of one priority, delays another one's start by little."""

from __future__ import annotations

import asyncio

from penstock.client import JobSpec, Penstock, Rules
from penstock.jobs.gate import WINDOW
from support.workers import NewWorker, Serve

FLOOD = 1_000


async def flood(ps: Penstock, tenant: str, jobs: int, *, priority: int = 5) -> None:
    rules = Rules(tenant=tenant) if tenant else Rules()
    specs = (
        JobSpec(name="note", payload={"of": tenant}, rules=rules, priority=priority)
        for _ in range(jobs)
    )
    async for told in ps.jobs.enqueue_many(specs):
        assert told.problem is None


async def test_a_flood_of_one_tenant_delays_another_by_a_window(
    ps: Penstock, serve: Serve, new_worker: NewWorker
) -> None:
    starts = list[str]()
    worker = new_worker(concurrency=4)

    @worker.register_handler("note")
    async def note(of: str) -> None:
        starts.append(of)

    await flood(ps, "a", FLOOD)
    await serve(worker)
    before = len(starts)
    job = await ps.jobs.enqueue("note", {"of": "b"}, tenant="b")
    await ps.jobs.result(job.id, timeout=20)
    assert before < FLOOD, "the flood was over before the other one came"
    late = starts.index("b") - before
    assert late <= 10 * WINDOW


async def test_a_tenant_gets_its_turns_by_weight(
    ps: Penstock, serve: Serve, new_worker: NewWorker
) -> None:
    starts = list[str]()
    worker = new_worker(concurrency=2)

    @worker.register_handler("note")
    async def note(of: str) -> None:
        starts.append(of)
        await asyncio.sleep(0.01)  # the workers are what is scarce

    await ps.queues.set_weight("default", "b", 3)
    await ps.queues.pause("default")
    await flood(ps, "a", 100)
    await flood(ps, "b", 100)
    await ps.queues.resume("default")
    await serve(worker)
    async with asyncio.timeout(20):
        while len(starts) < 100:
            await asyncio.sleep(0.02)
    first = starts[:100]
    assert first.count("b") > 1.5 * first.count("a")


async def test_a_flood_of_the_highest_priority_lets_the_lowest_move(
    ps: Penstock, serve: Serve, new_worker: NewWorker
) -> None:
    starts = list[str]()
    worker = new_worker(concurrency=4)

    @worker.register_handler("note")
    async def note(of: str) -> None:
        starts.append(of)

    await ps.queues.pause("default")
    await flood(ps, "", FLOOD, priority=9)
    low = await ps.jobs.enqueue("note", {"of": "low"}, priority=0)
    await ps.queues.resume("default")
    await serve(worker)
    await ps.jobs.result(low.id, timeout=20)
    assert starts.index("low") < 100
