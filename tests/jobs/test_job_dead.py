"""Jobs that failed: found by what they failed of, redriven and discarded, one or all."""

from __future__ import annotations

import asyncio

import pytest

from penstock.client import Penstock
from penstock.contracts.errors import Refused
from penstock.contracts.jobs import FailJob, JobError, Origin
from penstock.infra.host import Host


async def fail(ps: Penstock, id: str, error: str, queue: str = "default") -> None:
    """Enqueue a job that fails of an error at once."""
    await ps.jobs.enqueue("x", id=id, queue=queue)
    command = FailJob(error=JobError(type=error, message="no"))
    await ps.session.command(command, id=id)


async def ids(ps: Penstock, **filters: str) -> list[str]:
    return [job.id async for job in ps.jobs.dead(**filters)]  # type: ignore[arg-type]


async def test_dead_jobs_are_listed_and_counted_by_what_they_failed_of(ps: Penstock) -> None:
    for number in range(4):
        await fail(ps, f"v{number}", "ValueError", queue=f"q{number % 2}")
    await fail(ps, "k", "KeyError")
    await ps.jobs.enqueue("x", id="fine")
    assert await ids(ps) == ["k", "v3", "v2", "v1", "v0"]
    assert await ids(ps, error="ValueError", queue="q1") == ["v3", "v1"]
    assert await ids(ps, cause="attempts") == []
    assert await ids(ps, cause="permanent", error="KeyError", name="x") == ["k"]
    counts = [(one.error, one.count) for one in await ps.jobs.dead_counts()]
    assert counts == [("ValueError", 4), ("KeyError", 1)]


async def test_all_of_one_error_are_redriven_and_the_others_stay_dead(ps: Penstock) -> None:
    await asyncio.gather(*(fail(ps, f"v{number}", "ValueError") for number in range(70)))
    await fail(ps, "k", "KeyError")
    heard: list[int] = []
    settled = await ps.jobs.redrive_all(error="ValueError", told=heard.append)
    assert (settled.done, settled.refused, settled.left) == (70, 0, {})
    assert await ids(ps) == ["k"]
    job = await ps.jobs.get("v1")
    assert (job.state, job.attempt, job.error, len(job.errors)) == ("pending", 0, None, 1)
    assert (await ps.jobs.redrive_all(error="ValueError")).done == 0
    assert (await ps.jobs.redrive("k")).state == "pending"


async def test_all_are_redriven_also_those_that_the_view_does_not_know_yet(
    ps: Penstock, system: Host, nats_url: str, prefix: str
) -> None:
    [jobs] = system.services
    await fail(ps, "known", "ValueError")
    await jobs.projector.reach_end()
    async with Penstock(nats_url, prefix=prefix) as other:
        async with jobs.projector.paused():
            await fail(ps, "unknown", "ValueError")
            redriving = asyncio.create_task(other.jobs.redrive_all())
            await asyncio.wait((redriving,), timeout=0.5)
        assert (await redriving).done == 2


async def test_a_discarded_job_stays_failed_and_is_no_longer_dead(ps: Penstock) -> None:
    for id in ("a", "b", "c"):
        await fail(ps, id, "ValueError")
    assert (await ps.jobs.discard("a", "known")).discarded
    assert await ids(ps) == ["c", "b"]
    assert (await ps.jobs.discard_all()).done == 2
    assert await ids(ps) == []
    assert [job.id for job in await ps.jobs.list(state="failed")] == ["c", "b", "a"]
    assert (await ps.jobs.redrive("a")).state == "pending"


async def test_what_may_not_be_redriven_is_told_and_keeps_nobody_back(ps: Penstock) -> None:
    await ps.jobs.enqueue("x", id="of-workflow", origin=Origin(workflow="workflow:w"))
    command = FailJob(error=JobError(type="ValueError", message="no"))
    await ps.session.command(command, id="of-workflow")
    await fail(ps, "mine", "ValueError")
    settled = await ps.jobs.redrive_all()
    assert (settled.done, settled.refused) == (1, 1)
    assert "restart that instead" in settled.left["of-workflow"]
    with pytest.raises(Refused):
        await ps.jobs.discard("mine")
