"""Those who wait for a job are told of it by its worker: its workflow, and jobs at its gates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from penstock.client import Penstock, chain, step
from penstock.contracts.envelope import decode
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import JobCompleted, JobStarted, Limit, Rules
from penstock.infra.event_log import JetStreamEventLog
from penstock.infra.testing import running_system
from penstock.jobs.service import build
from support.workers import NewWorker, Serve, event_names, left, nothing_left, work_item

GATED = Rules(limit=Limit(key="k", at_most=1), tenant="t")


@pytest.fixture
async def told(ps: Penstock) -> list[str]:
    """The ids of the commands that tell of a job, as they are sent."""
    ids: list[str] = []

    async def hear(msg: Msg) -> None:
        ids.append(decode(msg.data).id)

    bus = ps.session.bus
    for verb in ("settle", "advance_workflow"):
        await bus.nc.subscribe(bus.subjects.command("jobs", verb), cb=hear)
    await bus.nc.flush()
    return ids


@pytest.fixture
async def job(ps: Penstock) -> JobState:
    """The job of a workflow with one step."""
    await ps.workflows.start(chain(step("one")), id="w")
    async for state in ps.jobs.watch("w.one"):
        return state
    raise AssertionError("a job has a state")


async def work(new_worker: NewWorker, serve: Serve) -> None:
    worker = new_worker()

    @worker.register_handler("one")
    async def one() -> str:
        return "done"

    await serve(worker)


async def test_the_worker_tells_a_workflow_of_the_end_of_its_job_and_nobody_of_others(
    ps: Penstock, told: list[str], job: JobState, new_worker: NewWorker, serve: Serve
) -> None:
    await work(new_worker, serve)
    assert await ps.workflows.result("w", timeout=60) == "done"
    plain = await ps.jobs.enqueue("one")
    await ps.jobs.result(plain.id, timeout=60)
    await nothing_left(ps)
    assert told == [f"{(await ps.jobs.history(job.id))[-1].id}:advance"]


async def test_the_worker_tells_of_the_start_and_the_end_of_a_job_that_others_wait_for(
    ps: Penstock, told: list[str], new_worker: NewWorker, serve: Serve
) -> None:
    await work(new_worker, serve)
    job = await ps.jobs.enqueue("one", limit="k", at_most=1, tenant="t")
    await ps.jobs.result(job.id, timeout=60)
    await nothing_left(ps)
    _, started, completed = await ps.jobs.history(job.id)
    assert told == [f"{job.id}:{event.sequence}:settle" for event in (started, completed)]


async def test_when_the_item_of_an_ended_job_comes_again_its_end_is_told(
    ps: Penstock, told: list[str], job: JobState, new_worker: NewWorker, serve: Serve
) -> None:
    item = await work_item(ps, job)
    started = JobStarted(attempt=1, worker="dead", item=item)
    await left(ps, job, started, JobCompleted(attempt=1, result="done before"))
    await work(new_worker, serve)
    assert await ps.workflows.result("w", timeout=60) == "done before"
    await nothing_left(ps)
    assert told == [f"{(await ps.jobs.history(job.id))[-1].id}:advance"]


@pytest.fixture
async def client(nats_url: str, prefix: str) -> AsyncIterator[Penstock]:
    """A client that outlives the service."""
    async with Penstock(nats_url, prefix=prefix, timeout=60) as client:
        yield client


@pytest.mark.parametrize(("rules", "untold"), [(GATED, "started"), (Rules(), "completed")])
async def test_what_cannot_be_told_for_a_while_costs_no_crash(
    rules: Rules,
    untold: str,
    client: Penstock,
    new_worker: NewWorker,
    nats_url: str,
    prefix: str,
    tmp_path: Path,
) -> None:
    worker, begun = new_worker(lease=1), asyncio.Event()

    @worker.register_handler("one")
    async def one() -> str:
        begun.set()
        return "done"

    async with running_system(nats_url, prefix, tmp_path, {"jobs": build}):
        await client.workflows.start(chain(step("one", rules=rules)), id="w")
        async for _ in client.jobs.watch("w.one"):
            break
    bus = client.session.bus
    await bus.api(f"STREAM.DELETE.{bus.subjects.stream('cmd')}")
    async with worker:
        async with asyncio.timeout(60):
            while untold not in await stored_events(client, "w.one"):
                await asyncio.sleep(0.02)
        assert begun.is_set() == (untold == "completed")
        async with running_system(nats_url, prefix, tmp_path, {"jobs": build}):
            assert await client.workflows.result("w", timeout=60) == "done"
            assert await event_names(client, "w.one") == ["queued", "started", "completed"]


async def stored_events(client: Penstock, id: str) -> list[str]:
    """What the log has of a job, which needs no service."""
    events = (await JetStreamEventLog(client.session.bus, "jobs").load(id)).events
    return [record.event.type.split(".")[2] for record in events]
