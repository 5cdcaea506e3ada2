"""A flood of one tenant, or of one priority, delays another one's start by little."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from penstock.client import JobSpec, Penstock, Rules
from penstock.jobs.gate import WINDOW, Gate
from penstock.jobs.gate_pace import MOST, Pace
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
    await ps.jobs.result(job.id, timeout=60)
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
    await flood(ps, "a", 300)
    await flood(ps, "b", 400)
    await ps.queues.resume("default")
    await serve(worker)
    async with asyncio.timeout(60):
        while len(starts) < 400:
            await asyncio.sleep(0.02)
    first = Counter(starts[:400])
    assert first["b"] / first["a"] == pytest.approx(3, rel=0.2)


async def test_shares_track_the_weights_where_workers_are_quick(
    ps: Penstock, serve: Serve, new_worker: NewWorker
) -> None:
    starts = list[str]()
    worker = new_worker(concurrency=200)

    @worker.register_handler("note")
    async def note(of: str) -> None:
        starts.append(of)

    await ps.queues.set_weight("default", "b", 3)
    await ps.queues.pause("default")
    await flood(ps, "a", 500)
    await flood(ps, "b", 1_000)
    await ps.queues.resume("default")
    await serve(worker)
    async with asyncio.timeout(30):
        while len(starts) < 1_000:
            await asyncio.sleep(0.02)
    first = Counter(starts[:1_000])
    assert first["b"] / first["a"] == pytest.approx(3, rel=0.2)


def test_a_window_grows_while_workers_wait_for_it_and_is_shared_by_weight() -> None:
    now = 0.0
    pace = Pace(lambda queue, tenant: 3 if tenant == "b" else 1, lambda: now)
    assert (pace.window("q", "a"), pace.window("q", "b")) == (WINDOW, 3 * WINDOW)
    a, b = Gate("a", WINDOW, "start"), Gate("b", 3 * WINDOW, "start")
    pace.filled("q", "a", a, 0)
    pace.filled("q", "b", b, 2)
    wider = pace.adapt()  # together they had nearly all begun
    assert [gate.capacity for gate in wider] == [2 * WINDOW, 6 * WINDOW]
    assert (pace.window("q", "a"), pace.window("q", "b")) == (2 * WINDOW, 6 * WINDOW)
    assert pace.adapt() == []  # nothing was filled again
    pace.filled("q", "a", wider[0], 30)
    pace.adapt()
    assert pace.window("q", "a") == 2 * WINDOW  # the others may only be told of later
    now = 1.0
    pace.filled("q", "a", wider[0], 30)
    assert pace.adapt() == []
    assert pace.window("q", "a") == WINDOW
    for _ in range(10):
        pace.filled("q", "a", a, 0)
        pace.adapt()
    assert pace.window("q", "a") == MOST
    now = 60.0
    assert pace.window("q", "a") == WINDOW


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
    await ps.jobs.result(low.id, timeout=60)
    assert starts.index("low") < 100
