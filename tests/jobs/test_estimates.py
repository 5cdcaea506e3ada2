"""When a job is expected to start and end: from the history of its name, and the queue ahead."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from penstock.client import Penstock
from penstock.contracts.errors import NotFound
from support.workers import NewWorker


async def test_estimates_come_from_history_and_say_what_is_not_known(
    ps: Penstock, new_worker: NewWorker
) -> None:
    with pytest.raises(NotFound):
        await ps.jobs.estimate("nobody")
    worker = new_worker(concurrency=1)
    begun, go_on = asyncio.Event(), asyncio.Event()

    @worker.register_handler("quick")
    async def quick(wait: bool = False) -> None:
        await asyncio.sleep(0.05)
        if wait:
            begun.set()
            await go_on.wait()

    @worker.register_handler("never-ran")
    async def never_ran() -> None:
        """Does nothing."""

    first = await ps.jobs.enqueue("quick", id="first")
    unknown = (await ps.jobs.estimate("first")).unknown
    assert unknown and unknown.startswith("No worker listens on the queue 'default'")
    async with worker:
        await ps.jobs.result(first.id, timeout=60)
        for n in range(5):
            await ps.jobs.enqueue("quick", id=f"q{n}")
        await ps.jobs.result("q4", timeout=60)
        over = await ps.jobs.estimate("q4")
        assert over.ends == (await ps.jobs.get("q4")).ended
        await ps.jobs.enqueue("quick", {"wait": True}, id="runs")
        await begun.wait()
        await ps.session.bus.publish(ps.session.bus.subjects.worker_call(), b"")
        for n in range(3):
            await ps.jobs.enqueue("quick", id=f"w{n}")
        await ps.jobs.enqueue("quick", id="first-of-all", priority=9)
        async with asyncio.timeout(60):
            while (await ps.jobs.workers())[0].jobs != 1:
                await asyncio.sleep(0.02)
        now = datetime.now(UTC)
        waits = await ps.jobs.estimate("w2")
        assert (waits.state, waits.ahead, waits.history) == ("pending", 3, 6)
        assert waits.starts and waits.ends and waits.ends_by
        assert now < waits.starts < waits.ends <= waits.ends_by
        assert (await ps.jobs.estimate("first-of-all")).ahead == 0
        runs = await ps.jobs.estimate("runs")
        assert runs.starts == (await ps.jobs.get("runs")).started
        await ps.jobs.enqueue("never-ran", id="new")
        new = await ps.jobs.estimate("new")
        assert new.starts is not None
        assert new.ends is None
        assert (
            new.unknown == "No job named 'never-ran' has run yet: nobody knows how long it takes."
        )
        go_on.set()
