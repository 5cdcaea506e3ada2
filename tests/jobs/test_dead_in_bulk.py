"""Thousands of dead jobs redriven and discarded, and what dies meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

from penstock.client import Penstock
from penstock.client.session import state_of
from penstock.contracts.errors import PenstockError
from penstock.contracts.job_reads import ListDead, ListJobs
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import FailJob, JobError
from penstock.contracts.jobs_bulk import ChangedJobs, JobAt, RedriveJobs
from penstock.infra.nats_server import EmbeddedNats
from support.command_line import CLEAN, PENSTOCK
from support.dead_jobs import failed
from support.faults.processes import Restarted
from support.workers import event_names, stored

READY = 30.0  # seconds for a service to come back
SURELY = 60.0  # seconds for all of it


async def at(ps: Penstock, id: str) -> JobAt:
    """The job as it is now."""
    return JobAt(id=id, sequence=(await ps.jobs.history(id))[-1].sequence)


async def events(ps: Penstock) -> int:
    """How many events are stored."""
    subjects, bus = ps.session.bus.subjects, ps.session.bus
    request = {"subjects_filter": subjects.events("jobs")}
    info = await bus.api(f"STREAM.INFO.{subjects.event_stream('jobs')}", request)
    return sum(info["state"]["subjects"].values())


async def changed(ps: Penstock, command: RedriveJobs, id: str) -> ChangedJobs:
    outcome = await ps.session.command(command, id=id, command_id=id)
    return state_of(outcome, ChangedJobs)


async def test_thousands_are_redriven_in_batches_and_each_once_though_the_caller_died(
    ps: Penstock,
) -> None:
    await failed(ps, 3000)
    begun = asyncio.Event()
    first = asyncio.create_task(ps.jobs.redrive_all(told=lambda _: begun.set()))
    await asyncio.wait_for(begun.wait(), READY)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    heard: list[int] = []
    second = await ps.jobs.redrive_all(told=heard.append)
    assert 0 < second.done < 3000
    assert (second.refused, heard[-1]) == (0, second.done)
    assert [job async for job in ps.jobs.dead()] == []
    assert (await events(ps), await stored(ps, "work")) == (9000, 3000)


async def test_a_service_killed_in_the_middle_redrives_each_once(
    fresh_nats: EmbeddedNats, tmp_path: Path
) -> None:
    env = {
        **CLEAN,
        "PENSTOCK_NATS_URL": fresh_nats.url,
        "PENSTOCK_DATA": str(tmp_path / "data"),
        "PENSTOCK_HTTP_PORT": "0",
        "PENSTOCK_DURABILITY": "os",
    }
    service = Restarted("jobs", [*PENSTOCK, "serve", "jobs"], env, tmp_path / "jobs.log")
    await service.start()
    kills: set[asyncio.Task[None]] = set()

    def kill_once(done: int) -> None:
        if done and not kills:
            kills.add(asyncio.create_task(service.kill()))

    try:
        async with Penstock(fresh_nats.url) as ps, asyncio.timeout(SURELY):
            await ready(ps)
            await failed(ps, 3000)
            while not kills or await left(ps):
                await again(ps, kill_once)
            while await stored(ps, "work") < 3000:  # what the kill cut off comes again
                await asyncio.sleep(0.1)
            assert (await events(ps), await stored(ps, "work")) == (9000, 3000)
    finally:
        await service.close()


async def ready(ps: Penstock) -> None:
    """Wait for the service to answer."""
    while True:
        try:
            await ps.jobs.queues()
        except PenstockError:
            await asyncio.sleep(0.05)
        else:
            return


async def left(ps: Penstock) -> int:
    """How many dead jobs there are."""
    await ready(ps)
    return sum(count.count for count in await ps.jobs.dead_counts())


async def again(ps: Penstock, told: object) -> None:
    """Redrive all, or as many as can be until the service is gone."""
    try:
        await ps.jobs.redrive_all(told=told)  # type: ignore[arg-type]
    except PenstockError:
        await ready(ps)


async def test_of_one_error_thousands_are_discarded_and_the_others_stay_dead(ps: Penstock) -> None:
    await failed(ps, 3000)
    settled = await ps.jobs.discard_all(error="ValueError", reason="known")
    assert (settled.done, settled.refused) == (2000, 0)
    assert [(one.error, one.count) for one in await ps.jobs.dead_counts()] == [("KeyError", 1000)]
    [*_, discarded] = await ps.jobs.history("d1")
    assert (discarded.type, discarded.data) == ("penstock.jobs.discarded.v1", {"reason": "known"})


async def test_each_of_many_is_told_what_became_of_it(ps: Penstock) -> None:
    await failed(ps, 3)
    moved_on = await at(ps, "d1")
    await ps.jobs.redrive("d1")
    await ps.session.command(FailJob(error=JobError(type="E", message="again")), id="d1")
    completed = JobAt(id="none", sequence=7)
    jobs = (await at(ps, "d0"), await at(ps, "d0"), moved_on, completed, JobAt(id="", sequence=1))
    [one, same, newer, none, bad] = (await changed(ps, RedriveJobs(jobs=jobs), "c")).jobs
    assert one.problem is same.problem is newer.problem is None
    assert one.sequence == same.sequence == (await at(ps, "d0")).sequence
    assert none.problem is not None
    assert none.problem.status == 404
    assert bad.problem is not None
    assert await event_names(ps, "d0") == ["queued", "failed", "redriven"]
    assert await event_names(ps, "d1") == ["queued", "failed", "redriven", "failed", "redriven"]


async def test_the_same_command_again_redrives_nobody_who_failed_anew(ps: Penstock) -> None:
    await failed(ps, 2)
    command = RedriveJobs(jobs=(await at(ps, "d0"), await at(ps, "d1")))
    first = await changed(ps, command, "c")
    await ps.session.command(FailJob(error=JobError(type="E", message="again")), id="d0")
    again = await changed(ps, command, "c")
    assert again == first
    assert await event_names(ps, "d0") == ["queued", "failed", "redriven", "failed"]
    assert await event_names(ps, "d1") == ["queued", "failed", "redriven"]


async def test_a_page_of_large_jobs_is_shorter_and_the_list_goes_on(ps: Penstock) -> None:
    await failed(ps, 60, traceback="x" * 200_000)
    question = ListDead(limit=1000, wait=20)
    page, _ = await ps.session.ask("jobs", "dead", question, list[JobState])
    assert 0 < len(page) < 60
    assert len([job async for job in ps.jobs.dead()]) == 60
    listed, _ = await ps.session.ask("jobs", "list", ListJobs(limit=1000), list[JobState])
    assert 0 < len(listed) < 60
