"""Handlers in processes: what they are told, what they tell, and how they end."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path

import pytest

from penstock.client import Backoff, Penstock, Unavailable, Worker
from penstock.client.worker.child_client import ChildClient
from support.lane_handlers import handlers
from support.waiting import up_to_date
from support.workers import NewWorker, Serve, event_names

SOON = Backoff(initial=0.0, maximum=0.0)


async def served(new_worker: NewWorker, serve: Serve, **options: float) -> Worker:
    worker = new_worker(processes=1, **options)
    worker.include(handlers)
    return await serve(worker)


def said(path: Path) -> str:
    return path.read_text() if path.exists() else ""


async def until(path: Path) -> str:
    async with asyncio.timeout(60):
        while not said(path):
            await asyncio.sleep(0.01)
    return said(path)


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def gone(pid: int) -> None:
    async with asyncio.timeout(60):
        while runs(pid):
            await asyncio.sleep(0.01)


async def test_a_process_is_reused_and_tells_what_its_handler_says(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    await served(new_worker, serve)
    pids = {await ps.jobs.result((await ps.jobs.enqueue("pid")).id, timeout=30) for _ in range(2)}
    assert len(pids - {os.getpid()}) == 1
    job = await ps.jobs.enqueue("tells")
    assert await ps.jobs.result(job.id, timeout=30) == [job.id, 1, {"at": 1}]
    assert {"checkpointed", "logged"} <= set(await event_names(ps, job.id))
    large = await ps.jobs.enqueue("large", {"size": 2_000_000})
    assert len(await ps.jobs.result(large.id, timeout=30)) == 2_000_000


async def test_a_handler_in_a_process_enqueues_its_children_once_and_is_told_what_is_wrong(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    await served(new_worker, serve)
    job = await ps.jobs.enqueue("enqueues", backoff=SOON)
    children, *wrong = await ps.jobs.result(job.id, timeout=30)
    assert children == [f"{job.id}.1", f"{job.id}.2"]
    assert wrong == ["InvalidMessage", "TypeError"]
    found = await ps.jobs.list(name="pid")
    assert {(one.id, one.tags) for one in found} == {(id, ("child",)) for id in children}
    assert {one.origin and one.origin.parent for one in found} == {job.id}


async def test_what_does_not_reach_a_process_is_told_in_one_sentence(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    await served(new_worker, serve)
    job = await ps.jobs.enqueue("misuses")
    no_run, child = await ps.jobs.result(job.id, timeout=30)
    assert "awaits the call itself" in no_run
    assert child == f"{job.id}.1"


@pytest.mark.parametrize("name", ["uses client", "awaits client"])
async def test_a_handler_in_a_process_has_the_client_of_its_context(
    ps: Penstock, new_worker: NewWorker, serve: Serve, name: str
) -> None:
    await served(new_worker, serve)
    job = await ps.jobs.enqueue(name, id="first")
    pid, *told = await ps.jobs.result("first", timeout=30)
    if name == "uses client":
        assert told == ["first.own", "jobs knows no 'none'."]
    else:
        assert told == ["processing", *(f"first.{n}" for n in range(5))]
    child = told[0] if name == "uses client" else told[1]
    [queued, *_] = await ps.jobs.history(child)
    assert (queued.correlationid, queued.actor) == (job.correlationid, "tester")
    assert queued.causationcause == (await ps.jobs.history("first"))[1].id
    await ps.jobs.enqueue(name, id="second")
    assert (await ps.jobs.result("second", timeout=30))[0] == pid


async def test_an_async_handler_in_a_process_is_cancelled_when_its_job_is(
    ps: Penstock, new_worker: NewWorker, serve: Serve, tmp_path: Path
) -> None:
    await served(new_worker, serve)
    job = await ps.jobs.enqueue("cleans up", {"directory": str(tmp_path)})
    pid = int(await until(tmp_path / "pid"))
    await ps.jobs.cancel(job.id)
    await gone(pid)
    assert (tmp_path / "cleaned").exists()


async def test_a_handler_in_a_process_hears_where_no_system_is_to_be_reached() -> None:
    client = ChildClient(partial(Penstock, "nats://127.0.0.1:9", timeout=0.2))

    async def use() -> None:
        await client.ps.jobs.get("any")

    def call() -> None:
        client.connect()
        client.run(use())

    with pytest.raises(Unavailable, match="No NATS server answers"):
        await asyncio.to_thread(call)
    await asyncio.to_thread(client.close)


async def test_what_a_handler_raises_in_a_process_is_treated_by_its_class(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    await served(new_worker, serve)
    job = await ps.jobs.enqueue("raises")
    [*_, last] = [state async for state in ps.jobs.watch(job.id)]
    assert (last.state, last.error and last.error.type) == ("cancelled", "KeyError")
    assert last.error
    assert "in raises" in last.error.traceback


async def test_a_process_that_dies_costs_a_crash_and_no_attempt_and_the_worker_lives_on(
    ps: Penstock, new_worker: NewWorker, serve: Serve, tmp_path: Path
) -> None:
    await served(new_worker, serve)
    job = await ps.jobs.enqueue("dies", {"directory": str(tmp_path)}, max_attempts=1, backoff=SOON)
    assert await ps.jobs.result(job.id, timeout=30) == "survived"
    state = await ps.jobs.get(job.id)
    assert (state.attempt, state.crashes, state.errors[0].type) == (1, 1, "ProcessDied")


@pytest.mark.parametrize("stubborn", [False, True])
async def test_a_cancelled_process_gets_a_signal_and_is_killed_if_it_does_not_end(
    ps: Penstock, new_worker: NewWorker, serve: Serve, tmp_path: Path, stubborn: bool
) -> None:
    await served(new_worker, serve, stop_grace=0.5)
    job = await ps.jobs.enqueue("sleeps", {"directory": str(tmp_path), "stubborn": stubborn})
    pid = int(await until(tmp_path / "pid"))
    await ps.jobs.cancel(job.id)
    await gone(pid)
    assert (tmp_path / "cleaned").exists() is not stubborn
    assert await ps.jobs.get_status(job.id) == "cancelled"
    assert await ps.jobs.result((await ps.jobs.enqueue("pid")).id, timeout=30) != pid


async def test_a_drained_worker_hands_back_what_runs_in_a_process(
    ps: Penstock, new_worker: NewWorker, tmp_path: Path
) -> None:
    worker = new_worker(grace=0.1, stop_grace=0.5, processes=1)
    worker.include(handlers)
    async with worker:
        job = await ps.jobs.enqueue("sleeps", {"directory": str(tmp_path)}, max_attempts=1)
        pid = int(await until(tmp_path / "pid"))
    await gone(pid)
    await up_to_date(ps)
    state = await ps.jobs.get(job.id)
    assert (state.state, state.attempt, state.crashes) == ("pending", 0, 0)
