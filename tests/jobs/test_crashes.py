"""Workers that are killed, stopped and drained in processes of their own: no job is lost."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock.client import Penstock, Worker
from penstock.infra.nats_server import EmbeddedNats
from penstock.infra.testing import running_system
from penstock.jobs.service import build
from support.waiting import up_to_date
from support.workers import Spawn, event_names

LEASE = 1.0  # seconds, in worker_program.py


async def said(directory: Path, what: str, seconds: float = 60) -> None:
    """Wait until a handler has said it."""
    async with asyncio.timeout(seconds):
        while not (directory / "said").exists() or what not in (directory / "said").read_text():
            await asyncio.sleep(0.01)


async def test_a_killed_workers_job_runs_elsewhere_soon_and_completes_once(
    ps: Penstock, spawn: Spawn, tmp_path: Path
) -> None:
    first = spawn()
    job = await ps.jobs.enqueue("wait")
    await said(tmp_path, f"begun 1 by {first.name}")
    second = spawn()
    await ready(ps, second.name)
    first.send(signal.SIGKILL)
    await said(tmp_path, f"begun 1 by {second.name}", LEASE + 2)
    (tmp_path / "go").touch()
    assert await ps.jobs.result(job.id, timeout=60) == second.name
    expected = ["queued", "started", "retrying", "started", "completed"]
    assert await event_names(ps, job.id) == expected
    done = await ps.jobs.get(job.id)
    assert (done.attempt, [error.type for error in done.errors]) == (1, ["WorkerLost"])


async def ready(ps: Penstock, worker: str) -> None:
    """Wait until a worker takes jobs: it has done one."""
    for number in range(100):
        probe = await ps.jobs.enqueue("brief", {"n": number})
        await ps.jobs.result(probe.id, timeout=60)
        if (await ps.jobs.get(probe.id)).worker == worker:
            return
    raise AssertionError(f"{worker} does not take jobs")


async def test_a_job_over_which_too_many_workers_died_is_quarantined(
    ps: Penstock, spawn: Spawn, tmp_path: Path
) -> None:
    first = spawn()
    job = await ps.jobs.enqueue("wait", max_crashes=1)
    await said(tmp_path, f"begun 1 by {first.name}")
    first.send(signal.SIGKILL)
    spawn()
    async with asyncio.timeout(60):
        [*_, last] = [state async for state in ps.jobs.watch(job.id)]
    assert (last.state, last.cause) == ("failed", "crashes")
    assert last.error
    assert (last.error.type, first.name in last.error.message) == ("WorkerLost", True)


async def test_a_worker_that_slept_through_its_lease_cannot_complete_the_job(
    ps: Penstock, spawn: Spawn, tmp_path: Path
) -> None:
    first = spawn()
    job = await ps.jobs.enqueue("wait")
    await said(tmp_path, f"begun 1 by {first.name}")
    first.send(signal.SIGSTOP)
    second = spawn()
    await said(tmp_path, f"begun 1 by {second.name}")
    (tmp_path / "go").touch()
    assert await ps.jobs.result(job.id, timeout=60) == second.name
    first.send(signal.SIGCONT)
    async with asyncio.timeout(60):
        while "is refused" not in first.log() and "its lease lost" not in first.log():
            await asyncio.sleep(0.02)
    assert (await event_names(ps, job.id)).count("completed") == 1
    assert (await ps.jobs.get(job.id)).worker == second.name


async def test_a_handler_that_blocks_the_loop_keeps_its_lease(ps: Penstock, spawn: Spawn) -> None:
    spawn()
    spawn()
    job = await ps.jobs.enqueue("block", {"seconds": 3 * LEASE})
    await ps.jobs.result(job.id, timeout=60)
    assert await event_names(ps, job.id) == ["queued", "started", "completed"]


@pytest.mark.parametrize("handler", ["wait", "stubborn"])
async def test_a_drained_worker_hands_back_what_does_not_end_and_no_attempt_is_spent(
    ps: Penstock, spawn: Spawn, tmp_path: Path, handler: str
) -> None:
    first = spawn(grace=0.2)
    job = await ps.jobs.enqueue(handler, max_attempts=1)
    await said(tmp_path, f"begun 1 by {first.name}")
    first.send(signal.SIGTERM)
    assert await asyncio.to_thread(first.wait) == 0
    assert await event_names(ps, job.id) == ["queued", "started", "released"]
    await up_to_date(ps)
    assert (await ps.jobs.get(job.id)).state == "pending"
    second = spawn()
    await said(tmp_path, f"begun 1 by {second.name}")
    (tmp_path / "go").touch()
    assert await ps.jobs.result(job.id, timeout=60) == second.name


async def test_a_signal_to_the_whole_group_hands_back_what_runs_in_a_process_and_costs_nothing(
    ps: Penstock, spawn: Spawn, tmp_path: Path
) -> None:
    worker = spawn(grace=0.5)
    job = await ps.jobs.enqueue("apart", max_attempts=1, max_crashes=1)
    await said(tmp_path, "begun 1 in")
    worker.send_to_group(signal.SIGTERM)
    assert await asyncio.to_thread(worker.wait) == 0
    assert "told to end in" in (tmp_path / "said").read_text()
    await up_to_date(ps)
    state = await ps.jobs.get(job.id)
    assert (state.state, state.attempt, state.crashes) == ("pending", 0, 0)
    assert await event_names(ps, job.id) == ["queued", "started", "released"]


async def test_a_drained_worker_finishes_what_ends_within_its_grace(
    ps: Penstock, spawn: Spawn, tmp_path: Path
) -> None:
    worker = spawn(grace=10)
    job = await ps.jobs.enqueue("wait")
    await said(tmp_path, f"begun 1 by {worker.name}")
    worker.send(signal.SIGTERM)
    late = await ps.jobs.enqueue("brief", {"n": 1})
    (tmp_path / "go").touch()
    assert await asyncio.to_thread(worker.wait) == 0
    assert await ps.jobs.result(job.id, timeout=60) == worker.name
    spawn()
    assert await ps.jobs.result(late.id, timeout=60) == 1


async def test_a_second_signal_cuts_the_grace_short(
    ps: Penstock, spawn: Spawn, tmp_path: Path
) -> None:
    worker = spawn(grace=60)
    job = await ps.jobs.enqueue("wait")
    await said(tmp_path, f"begun 1 by {worker.name}")
    worker.send(signal.SIGINT)
    with pytest.raises(Exception, match="timed out"):
        await asyncio.to_thread(worker.wait, 1)
    worker.send(signal.SIGINT)
    assert await asyncio.to_thread(worker.wait) == 0
    await up_to_date(ps)
    assert (await ps.jobs.get(job.id)).state == "pending"


async def test_every_job_completes_once_however_often_workers_are_killed(
    ps: Penstock, spawn: Spawn, rounds: int
) -> None:
    count = 100 * rounds  # about as many as are done in so many short lives
    jobs = await asyncio.gather(
        *(
            ps.jobs.enqueue("brief", {"n": n}, max_attempts=100, max_crashes=100)
            for n in range(count)
        )
    )
    when = random.Random(5)
    for _ in range(rounds):
        worker = spawn()
        await at_work(ps, worker.name)
        await asyncio.sleep(when.uniform(0, 0.1))
        worker.send(signal.SIGKILL)
    spawn()
    assert [await ps.jobs.result(job.id, timeout=60) for job in jobs] == list(range(count))
    ends = [(await event_names(ps, job.id)).count("completed") for job in jobs]
    assert ends == [1] * count


async def at_work(ps: Penstock, worker: str) -> None:
    """Wait until a worker holds a job, if any are left."""
    async with asyncio.timeout(60):
        while await ps.jobs.queues():
            if worker in {job.worker for job in await ps.jobs.list(state="processing")}:
                return
            await asyncio.sleep(0.005)


@pytest.fixture
async def own(fresh_nats: EmbeddedNats, prefix: str, tmp_path: Path) -> AsyncIterator[Penstock]:
    """A client of a jobs service on a server of its own."""
    async with (
        running_system(fresh_nats.url, prefix, tmp_path, {"jobs": build}),
        Penstock(fresh_nats.url, prefix=prefix, timeout=30) as client,
    ):
        yield client


async def test_workers_go_on_after_the_server_was_killed(
    own: Penstock, fresh_nats: EmbeddedNats, prefix: str
) -> None:
    worker = Worker(fresh_nats.url, prefix=prefix, durability="os")
    running, go = asyncio.Event(), asyncio.Event()

    @worker.register_handler("wait")
    async def wait() -> str:
        running.set()
        await go.wait()
        return "through it"

    async with worker:
        before = await own.jobs.enqueue("wait")
        await asyncio.wait_for(running.wait(), 60)
        os.kill(fresh_nats.pid, signal.SIGKILL)
        go.set()
        assert await own.jobs.result(before.id, timeout=30) == "through it"
        after = await own.jobs.enqueue("wait")
        assert await own.jobs.result(after.id, timeout=30) == "through it"
        assert worker.problem() is None
