"""A job whose timer or item a server lost goes on all the same, and no other is touched."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from penstock.client import JobSpec, Penstock, Worker
from penstock.contracts.jobs import JobCompleted, JobStarted
from penstock.infra.host import Host
from penstock.infra.testing import running_system
from penstock.jobs import overdue as overdue_module
from penstock.jobs.overdue import PAGE, OverdueJobs
from penstock.jobs.service import build
from support.workers import left


@pytest.fixture
def set_going() -> list[str]:
    """The jobs that were found to wait for nothing."""
    return []


@pytest.fixture
def overdue(system: Host, set_going: list[str], monkeypatch: pytest.MonkeyPatch) -> OverdueJobs:
    """Looks at every job whose time is past, and notes what it finds."""
    [jobs] = system.services

    async def note(id: str) -> None:
        set_going.append(id)

    monkeypatch.setattr(overdue_module, "LATE", 0.0)
    return OverdueJobs(jobs.bus, lambda: jobs.model, note)


async def lose(ps: Penstock, stream: str) -> None:
    """What a killed server may do."""
    bus = ps.session.bus
    await bus.api(f"STREAM.PURGE.{bus.subjects.stream(stream)}")


async def pending(ps: Penstock, count: int) -> None:
    """Wait until the view has so many jobs that wait."""
    async with asyncio.timeout(60):
        while (await ps.jobs.stats()).total.pending < count:
            await asyncio.sleep(0.02)


async def test_what_has_neither_an_item_nor_a_timer_is_found_once_its_time_is_past(
    ps: Penstock, overdue: OverdueJobs, set_going: list[str]
) -> None:
    await ps.jobs.enqueue("n", id="lost")
    await ps.jobs.enqueue("n", id="lost-timer", delay=0.3)
    await ps.jobs.enqueue("n", id="to-come", delay=3600)
    await lose(ps, "work")
    await lose(ps, "sched")
    await ps.jobs.enqueue("n", id="waits")
    await ps.jobs.enqueue("n", id="gated", limit="k")
    await ps.jobs.enqueue("n", id="at-the-gate", limit="k")
    await pending(ps, 6)
    async with asyncio.timeout(60):
        while "lost-timer" not in set_going:
            set_going.clear()
            await overdue.look()
            await asyncio.sleep(0.02)
    assert sorted(set_going) == ["lost", "lost-timer"]


async def test_more_than_a_page_of_jobs_that_wait_for_a_worker_hides_none_that_is_lost(
    ps: Penstock, overdue: OverdueJobs, set_going: list[str]
) -> None:
    await ps.jobs.enqueue("n", id="lost", priority=9)
    await lose(ps, "work")
    specs = (JobSpec(name="n", id=f"waits-{number}") for number in range(PAGE + 10))
    async for enqueued in ps.jobs.enqueue_many(specs):
        assert enqueued.problem is None
    await pending(ps, PAGE + 11)
    await overdue.look()
    assert set_going == ["lost"]


async def test_a_job_that_has_moved_on_unknown_to_the_view_is_left_alone(
    ps: Penstock, system: Host, overdue: OverdueJobs, set_going: list[str]
) -> None:
    job = await ps.jobs.enqueue("n", id="done")
    await pending(ps, 1)
    await lose(ps, "work")  # as what is done is removed
    [jobs] = system.services
    async with jobs.projector.paused():
        ended = JobCompleted(attempt=1, result=None)
        await left(ps, job, JobStarted(attempt=1, worker="w", item=1), ended)
        await overdue.look()
        assert await overdue._standing(["done"]) == []
    assert set_going == []
    await ps.jobs.result("done", timeout=60)  # the view has folded its end then
    assert (await ps.jobs.get("done")).state == "completed"
    assert await overdue._standing(["done"]) == [], "also when the view has come to know"


async def test_a_job_whose_timer_was_lost_is_done(
    nats_url: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("SOON", 0.1), ("EVERY", 0.1), ("LATE", 0.0)):
        monkeypatch.setattr(overdue_module, name, seconds)
    worker = Worker(nats_url, prefix=prefix, durability="os")

    @worker.register_handler("n")
    async def n() -> str:
        return "done"

    async with (
        running_system(nats_url, prefix, tmp_path, {"jobs": build}),
        Penstock(nats_url, prefix=prefix) as ps,
        worker,
    ):
        await ps.jobs.enqueue("n", id="lost", delay=0.5)
        await lose(ps, "sched")
        assert await ps.jobs.result("lost", timeout=60) == "done"
